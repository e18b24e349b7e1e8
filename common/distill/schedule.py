"""The loss weight schedule: how strongly distillation counts in the course of a run."""

import math
from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.utils.events import get_event_storage, has_event_storage


@dataclass(frozen=True)
class LossWeightSchedule:
    """A factor on all distillation losses: a linear rise from 0 to 1, then constant or down to 0 at the end.

    Args:
        warmup: iterations of the rise; 0 = none.
        decay: "none", "linear" or "cosine".
        iterations: of the whole run.
    """

    warmup: int = 0
    decay: str = "none"
    iterations: int = 1

    @classmethod
    def of(cls, cfg: CfgNode) -> "LossWeightSchedule":
        """The schedule of DISTILL.WARMUP_ITERS and DISTILL.DECAY."""
        return cls(cfg.DISTILL.WARMUP_ITERS, cfg.DISTILL.DECAY, cfg.SOLVER.MAX_ITER)

    def __call__(self, iteration: int) -> float:
        """The factor, in [0, 1], at an iteration from 0."""
        if iteration < self.warmup:
            return iteration / self.warmup
        done = min((iteration - self.warmup) / max(self.iterations - self.warmup, 1), 1.0)
        if self.decay == "linear":
            return 1 - done
        return (1 + math.cos(math.pi * done)) / 2 if self.decay == "cosine" else 1.0

    def now(self) -> float:
        """The factor at the iteration that Detectron2's trainer is at; 1 outside of a run."""
        return self(get_event_storage().iter) if has_event_storage() else 1.0

    def __str__(self) -> str:
        rise = f"rising over {self.warmup} iterations" if self.warmup else ""
        fall = f"{self.decay} decay to 0" if self.decay != "none" else ""
        return ", ".join(filter(None, (rise, fall)))
