"""From the command line to one or many processes, and to an exit code."""

import argparse
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import active_children
from types import FrameType

import torch
import torch.distributed as dist
from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm
from torch.distributed.elastic.multiprocessing.errors import record
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from densedist.common.errors import USER_ERROR, UserError
from densedist.common.engine.preemption import REQUEUE

Main = Callable[[argparse.Namespace], None]


def parser(description: str) -> argparse.ArgumentParser:
    """Detectron2's grammar: --config-file, --num-gpus, --resume, --eval-only, KEY VALUE … and --debug."""
    result = default_argument_parser(epilog="KEY VALUE pairs at the end change keys of the config.")
    result.description = description
    result.add_argument("--debug", action="store_true", help="show the traceback of a user error")
    return result


def run(main: Main, arguments: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> None:
    """Run main(args) in every process; exit with code 2 and one line for a UserError.

    Under torchrun each process is one rank. Otherwise --num-gpus above 1 starts that many processes here
    (and --num-machines, --machine-rank, --dist-url join several machines). Without a GPU they use gloo.
    Where one process fails, the others end too, and why it failed is shown last.
    """
    args = arguments.parse_args(argv)
    # --debug among the KEY VALUE pairs is still an option, not a key.
    if "--debug" in args.opts:
        args.opts.remove("--debug")
        args.debug = True
    start = _as_torchrun_says if "TORCHELASTIC_RUN_ID" in os.environ else _start
    guarded(lambda args: start(main, args), args)


def guarded(main: Main, args: argparse.Namespace) -> None:
    """main(args), with a UserError, or a full disk, turned into one line and exit code 2."""
    try:
        main(args)
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        if getattr(args, "debug", False):
            traceback.print_exception(error)
        if comm.is_main_process():
            print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def _start(main: Main, args: argparse.Namespace) -> None:
    """main(args) here, or in --num-gpus processes, to which SIGTERM is passed on."""
    check_gpus(args.num_gpus, "--num-gpus")
    url = args.dist_url if args.num_machines > 1 else "auto"
    if args.num_gpus * args.num_machines > 1:
        signal.signal(signal.SIGTERM, pass_on)
    try:
        launch(main, args.num_gpus, args.num_machines, args.machine_rank, url, args=(args,))
    except ProcessRaisedException as error:
        if USER_ERROR not in str(error).strip().rpartition("\n")[2]:
            raise
        raise UserError(str(error)) from error
    except ProcessExitedException as error:
        if error.exit_code != REQUEUE:
            print(f"error: {error}; --resume goes on from the last checkpoint", file=sys.stderr, flush=True)
        sys.exit(error.exit_code if error.exit_code > 0 else 1)


def pass_on(_: int, __: FrameType | None) -> None:
    """Handles a signal by ending the processes started from here."""
    for process in active_children():
        process.terminate()


def _as_torchrun_says(main: Main, args: argparse.Namespace) -> None:
    """main(args) as the rank that the environment variables name; torchrun itself shows the first failure last."""
    check_gpus(int(os.environ["LOCAL_WORLD_SIZE"]), "--nproc-per-node")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    record(main)(args)
    dist.destroy_process_group()


def check_gpus(count: int, option: str) -> None:
    """Make sure that an option asks for no more GPUs than there are, if there are any.

    Raises:
        UserError: it does, or for less than 1.
    """
    if count < 1:
        raise UserError(f"{option} is {count}: want 1 or more")
    if torch.cuda.is_available() and count > torch.cuda.device_count():
        raise UserError(f"{option} is {count}, but this machine has {torch.cuda.device_count()}")
