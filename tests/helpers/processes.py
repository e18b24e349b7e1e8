"""Functions and commands in processes of their own, forked from one that has imported everything."""

import io
import multiprocessing
import os
import pickle
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
from helpers.random_numbers import draw_once

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(
    [
        *("densedist.det.task", "densedist.seg.task", "densedist.api", "densedist.command"),
        *("densedist.common.losses.dist.numba_backend", "torch.utils.tensorboard", "helpers.random_numbers"),
    ]
)


def run_processes(count, function, *args):
    """function(rank, count, *args) in each of count processes of one gloo group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(_join, (count, port, function, args), nprocs=count, start_method="forkserver")


def _join(rank, count, port, function, args):
    draw_once()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    comm.create_local_process_group(count)
    try:
        function(rank, count, *args)
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class Done:
    """What a function or a command came to."""

    code: int
    out: str
    err: str


def command(*argv, cwd=None):
    """`densedist argv …` in a process of its own. Those that --num-gpus starts are forked from it."""
    return call(_densedist, [str(word) for word in argv], cwd=cwd)


def torchrun(count, file, *argv):
    """`torchrun --nproc-per-node count file argv …` in a process of its own, from which its ranks are forked."""
    return call(_torchrun, count, [str(word) for word in (file, *argv)])


def call(function, *args, cwd=None):
    """function(*args) in a new process that has imported torch and the rest, but no code of the user's."""
    ours, theirs = server.Pipe(duplex=False)
    process = server.Process(target=_answer, args=(function, args, cwd, theirs))
    process.start()
    theirs.close()
    try:
        done = ours.recv()
    except EOFError:
        done = Done(process.exitcode or 1, "", "the process died")
    process.join()
    return done


def _answer(function, args, cwd, pipe):
    from densedist.common import timing

    draw_nothing()
    draw_once()
    torch.set_num_threads(1)
    timing.SECONDS, timing.LEAST = 0.1, 3
    if cwd is not None:
        os.chdir(cwd)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            function(*args)
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            code = 1
    pipe.send(Done(code, out.getvalue(), err.getvalue()))


def _densedist(argv):
    from densedist.command import main

    mp.start_processes = _forked
    main(argv)


def _forked(function, args=(), nprocs=1, join=True, daemon=False, start_method="fork"):
    """In the place of torch.multiprocessing.start_processes, of what could be sent to new processes."""
    pickle.dumps((function, args))
    return _start_processes(function, args, nprocs, join, daemon, "fork")


_start_processes = mp.start_processes


def _torchrun(count, argv):
    from torch.distributed import run

    options = ["--standalone", f"--nproc-per-node={count}", "--run-path", "--start-method=fork"]
    run.run(run.parse_args([*options, *argv]))
