"""Run a command in one or many processes."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import active_children
from types import FrameType

import torch
import torch.distributed as dist
from detectron2.engine import launch
from detectron2.utils import comm
from torch.distributed.elastic.multiprocessing.errors import record
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from densedist.common.engine.preemption import REQUEUE
from densedist.common.errors import USER_ERROR, UserError

Main = Callable[[], object]


@dataclass(frozen=True)
class Processes:
    """The number of processes of a run, in Detectron2's words; under torchrun the environment decides.

    Args:
        num_gpus: on this machine.
        dist_url: where several machines meet; one machine finds a free port itself.
    """

    num_gpus: int = 1
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"


def run_in_processes(main: Main, processes: Processes) -> None:
    """Run main() in every process.

    Under torchrun each process is one rank. Otherwise num_gpus above 1 starts that many processes here, and
    num_machines joins several machines. Without a GPU they use gloo. Where one process fails, the others end too, and
    why it failed is shown last.

    Args:
        main: one that other processes can import.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _as_torchrun_says(main)
    else:
        _start(main, processes)


def _start(main: Main, processes: Processes) -> None:
    """Run main() here, or in several processes, and pass SIGTERM and Ctrl-C on to them."""
    gpus, machines = processes.num_gpus, processes.num_machines
    check_gpus(gpus, "--num-gpus")
    url = processes.dist_url if machines > 1 else "auto"
    if machines > 1 and url == "auto":
        raise UserError("--dist-url is missing: name where the machines meet, as in tcp://HOST:29500")
    if gpus > 1 and not torch.cuda.is_available():
        main = partial(_on_its_share, main, gpus)
    if gpus * machines > 1:
        signal.signal(signal.SIGTERM, pass_on)
    try:
        launch(main, gpus, machines, processes.machine_rank, url)
    except KeyboardInterrupt:  # a terminal sends it to all processes, `kill` to this one only
        pass_on()
        for process in active_children():
            process.join()  # until they have written a checkpoint
        raise
    except ProcessRaisedException as error:
        if USER_ERROR not in str(error).strip().rpartition("\n")[2]:
            raise
        raise UserError(str(error)) from error
    except ProcessExitedException as error:
        if error.exit_code != REQUEUE:
            print(f"error: {error}; --resume continues from the last checkpoint", file=sys.stderr, flush=True)
        sys.exit(error.exit_code if error.exit_code > 0 else 1)


def _on_its_share(main: Main, processes: int) -> None:
    """Run main() with this process's share of the threads: without GPUs each process would take all cores."""
    torch.set_num_threads(max(torch.get_num_threads() // processes, 1))
    main()


def pass_on(_: int = signal.SIGTERM, __: FrameType | None = None) -> None:
    """Ask the processes started from here to end."""
    for process in active_children():
        process.terminate()


def _as_torchrun_says(main: Main) -> None:
    """Run main() as the rank that the environment names; torchrun itself shows the first failure last."""
    check_gpus(int(os.environ["LOCAL_WORLD_SIZE"]), "--nproc-per-node")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    record(main)()
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
