"""From the command line to one or many processes, and to an exit code."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm

from common.errors import UserError

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
    """
    args = arguments.parse_args(argv)
    # --debug among the KEY VALUE pairs is still an option, not a key.
    if "--debug" in args.opts:
        args.opts.remove("--debug")
        args.debug = True
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _join_torchrun()
        try:
            guarded(main, args)
        finally:
            dist.destroy_process_group()
        return
    guarded(_check_gpus, args)
    url = args.dist_url if args.num_machines > 1 else "auto"
    try:
        launch(guarded, args.num_gpus, args.num_machines, args.machine_rank, url, args=(main, args))
    except torch.multiprocessing.ProcessExitedException as error:
        sys.exit(error.exit_code or 1)  # the process that failed has said why


def guarded(main: Main, args: argparse.Namespace) -> None:
    """main(args), with a UserError turned into one line and exit code 2."""
    try:
        main(args)
    except UserError as error:
        if getattr(args, "debug", False):
            traceback.print_exception(error)
        if comm.is_main_process():
            print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def _check_gpus(args: argparse.Namespace) -> None:
    if args.num_gpus < 1:
        raise UserError(f"--num-gpus is {args.num_gpus}: want 1 or more")
    if torch.cuda.is_available() and args.num_gpus > torch.cuda.device_count():
        raise UserError(f"--num-gpus is {args.num_gpus}, but this machine has {torch.cuda.device_count()}")


def _join_torchrun() -> None:
    """Become the rank that torchrun's environment variables name."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
