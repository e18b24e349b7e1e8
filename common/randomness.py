"""Random numbers that depend on the position in a run alone, not on whether it was resumed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class RunPosition:
    """Where a run begins or goes on: its seed, 0 or more, and the iteration to do next."""

    seed: int
    iteration: int = 0


def seed_all(*key: int) -> None:
    """Seed Python, NumPy and PyTorch, on all devices, by the numbers of key (0 or more) alone."""
    seed = int(_seed_python_and_numpy(key)[1])
    torch.default_generator.manual_seed(seed)
    # torch.manual_seed also keeps a stack trace for each kind of device that is not there, in every step.
    if torch.accelerator.is_available():
        devices = torch.get_device_module()
        getattr(devices, "manual_seed_all", devices.manual_seed)(seed)


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed Python, NumPy and PyTorch's CPU generator by key within the block, and restore their states after it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = _seed_python_and_numpy(key)
    torch.default_generator.manual_seed(int(words[1]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def kept_random_state(device: torch.device | str) -> Iterator[None]:
    """Let PyTorch's generators of the CPU and of one device go on after the block as if nothing had been drawn in it.

    Other devices are not touched: to read the state of a GPU is to begin using it.
    """
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _seed_python_and_numpy(key: tuple[int, ...]) -> np.ndarray:
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words)
    return words
