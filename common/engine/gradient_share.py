"""A constant share of the gradient for distillation: DISTILL.GRADIENT_SHARE."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.distill.distiller import Distiller
from densedist.common.distributed import mean_over_processes
from densedist.common.engine.gradients import compare_gradients
from densedist.common.report.history import COSINE

TASK, DISTILLED = "task", "distilled"
KEPT = 0.5  # of the average so far at each look
TRIES = 5  # iterations in a row at which a look is tried until one was possible


class GradientShare:
    """One factor on all losses of distillation, by which their gradient has a constant share.

    With t and d the norms of the gradients of the summed losses of the task and of distillation, on the parameters that
    both train, the factor f makes f·d / (f·d + t) the share that is wanted. t and d are taken over their sum, and then
    averaged over all processes; d / t is averaged over the looks, by its logarithm. LossWeightSchedule is a factor on
    distillation that has this share.

    Args:
        distiller: whose losses are scaled; its share is above 0.
        period: iterations from a look to the next.
    """

    def __init__(self, distiller: Distiller, period: int) -> None:
        self.names, self.schedule = distiller.loss_names, distiller.schedule
        self.share, self.period = distiller.share, period
        self.factor = 1.0
        self._log_ratio: float | None = None  # of d / t, without factor and schedule

    def is_due(self, iteration: int) -> bool:
        """Return whether an iteration is a look; it costs two backward passes of the student."""
        return iteration % self.period < (TRIES if self._log_ratio is None else 1)

    def look(
        self, losses: Mapping[str, Tensor], iteration: int, parameters: Sequence[Tensor], scale: float
    ) -> dict[str, float]:
        """Measure the gradients of a batch, and set the factor. All processes call it.

        Args:
            losses: 0-dim, by name, as the model gives them.
            parameters: the trained parameters.
            scale: see compare_gradients.

        Returns:
            numbers for the log; empty where nothing could be measured, which leaves the factor as it is.
        """
        schedule = self.schedule(iteration)
        sides = {
            TASK: [loss for name, loss in losses.items() if name not in self.names],
            DISTILLED: [loss for name, loss in losses.items() if name in self.names],
        }
        summed = {side: torch.stack(found).sum() for side, found in sides.items() if found}
        seen = compare_gradients(summed, parameters, scale, [DISTILLED])
        shares = [seen.shares.get(side, math.nan) for side in (TASK, DISTILLED)]
        cosine = seen.cosine or 0.0
        device = next(iter(losses.values())).device
        task, distilled, cosine = mean_over_processes(
            torch.tensor([*shares, cosine], dtype=torch.float64, device=device)
        ).tolist()
        if not (schedule and task > 0 and distilled > 0):  # NaN, too
            return {}
        new = math.log(distilled / (schedule * task))
        self._log_ratio = new if self._log_ratio is None else KEPT * self._log_ratio + (1 - KEPT) * new
        self.factor = self.share / (1 - self.share) / math.exp(self._log_ratio)
        now = self.factor * distilled
        return {
            "gradient_share": 100 * now / (now + task),
            "gradient_factor": self.factor,
            COSINE: cosine,
        }

    def scaled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return losses, or their values, by name, with those of distillation times the factor."""
        return {name: self.factor * value if name in self.names else value for name, value in values.items()}

    def state_dict(self) -> dict[str, float | None]:
        return {"factor": self.factor, "log_ratio": self._log_ratio}

    def load_state_dict(self, state_dict: Mapping[str, float | None]) -> None:
        self.factor, self._log_ratio = state_dict["factor"] or 1.0, state_dict["log_ratio"]


def gradient_share_of(cfg: CfgNode, distiller: Distiller) -> GradientShare | None:
    """Return what DISTILL.GRADIENT_SHARE and GRADIENT_PERIOD describe; None where they ask for nothing."""
    return GradientShare(distiller, cfg.DISTILL.GRADIENT_PERIOD) if distiller.share else None
