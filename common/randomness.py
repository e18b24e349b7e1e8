"""Random numbers that depend on where a run is, and not on how it came there."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm


def seed_all(*key: int) -> None:
    """Seed Python, NumPy and PyTorch, on all devices, by the numbers of key (0 or more) alone."""
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words)
    torch.manual_seed(int(words[1]))


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seeds Python, NumPy and PyTorch's CPU generator by key within the block; then they go on as before it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words)
    torch.default_generator.manual_seed(int(words[1]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class SeedEachStep(HookBase):
    """Seeds every process before each step by the trainer's seed, the iteration and the rank.

    So a checkpoint needs no random states, and a run that goes on from one draws what it would have drawn.
    """

    def before_step(self) -> None:
        seed_all(self.trainer.seed, self.trainer.iter, comm.get_rank())
