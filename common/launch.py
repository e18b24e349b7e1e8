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
    try:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            _guarded(_joined, main, args)
        else:
            _check_gpus(args.num_gpus)
            url = args.dist_url if args.num_machines > 1 else "auto"
            launched = (_guarded, args.num_gpus, args.num_machines, args.machine_rank, url)
            launch(*launched, args=(_called, main, args))
    except UserError as error:
        _exit(error, args.debug)
    except torch.multiprocessing.ProcessExitedException as error:
        # The process that failed has said why.
        sys.exit(error.exit_code or 1)


def _check_gpus(wanted: int) -> None:
    if wanted < 1:
        raise UserError(f"--num-gpus is {wanted}: want 1 or more")
    if torch.cuda.is_available() and wanted > torch.cuda.device_count():
        raise UserError(f"--num-gpus is {wanted}, but this machine has {torch.cuda.device_count()}")


def _called(main: Main, args: argparse.Namespace) -> None:
    main(args)


def _joined(main: Main, args: argparse.Namespace) -> None:
    """main(args) as a rank of the group that torchrun has set up."""
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    try:
        main(args)
    finally:
        dist.destroy_process_group()


def _guarded(body: Callable[[Main, argparse.Namespace], None], main: Main, args: argparse.Namespace) -> None:
    try:
        body(main, args)
    except UserError as error:
        _exit(error, args.debug)


def _exit(error: UserError, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    if comm.is_main_process():
        print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(2)
