"""Functions and commands in processes of their own, forked from one that has imported everything."""

import io
import multiprocessing
import os
import socket
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

from helpers.drawing import draw_nothing

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["densedist.det.task", "densedist.seg.task", "densedist.api", "densedist.command"])


def run_processes(count, function, *args):
    """function(rank, count, *args) in each of count processes of one gloo group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(_join, (count, port, function, args), nprocs=count, start_method="forkserver")


def _join(rank, count, port, function, args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    comm.create_local_process_group(count)
    try:
        function(rank, count, *args)
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str


def command(*argv, cwd=None):
    """`densedist argv …` in a new process that has imported torch and the rest, but no code of the user's."""
    ours, theirs = server.Pipe(duplex=False)
    process = server.Process(target=_command, args=([str(word) for word in argv], cwd, theirs))
    process.start()
    theirs.close()
    try:
        done = ours.recv()
    except EOFError:
        done = Done(process.exitcode or 1, "", "the process died")
    process.join()
    return done


def _command(argv, cwd, pipe):
    from densedist.command import main
    from densedist.common import profile

    draw_nothing()
    torch.set_num_threads(1)
    profile.SECONDS = 0.1
    if cwd is not None:
        os.chdir(cwd)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(argv)
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            code = 1
    pipe.send(Done(code, out.getvalue(), err.getvalue()))
