"""Runs in processes of their own that are killed."""

import io
import os
import signal
import sys
import time

import torch

from helpers.drawing import draw_nothing
from helpers.processes import server
from helpers.random_numbers import draw_once


def run(task, argv, kill_after=None, dies_writing=None):
    """train_<task> with argv: (exit code, seconds); negative codes are signals.

    Args:
        kill_after: seconds until SIGKILL.
        dies_writing: (n, part): SIGKILL in the n-th write of a checkpoint, after this part of its bytes.
    """
    process = server.Process(target=_train, args=(task, [str(word) for word in argv], dies_writing))
    start = time.monotonic()
    process.start()
    process.join(kill_after)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode, time.monotonic() - start


def _train(task, argv, dies_writing):
    from densedist.command import main

    draw_nothing()
    draw_once()
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if dies_writing:
        torch.save = _deadly(torch.save, *dies_writing)
    main(["train", task, *argv])


def _deadly(save, count, part):
    calls = iter(range(1, count + 1))

    def half(data, file):
        if next(calls) < count:
            save(data, file)
            return
        whole = io.BytesIO()
        save(data, whole)
        file.write(whole.getvalue()[: int(part * whole.tell())])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    return half


def differences(first, second, path=""):
    """Where two checkpoints differ, bit by bit; the time on the clock may."""
    if isinstance(first, dict):
        keys = (set(first) | set(second)) - {"Clock"}
        return [d for key in sorted(keys, key=str) for d in _of_key(first, second, key, path)]
    if isinstance(first, (list, tuple)) and len(first) == len(second):
        return [d for i, pair in enumerate(zip(first, second, strict=True)) for d in differences(*pair, f"{path}.{i}")]
    same = torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
    return [] if same else [path]


def _of_key(first, second, key, path):
    where = f"{path}.{key}"
    return differences(first[key], second[key], where) if key in first and key in second else [where]
