"""The losses of MODEL.LOSS, and their weighted sum on each of a network's heads."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from detectron2.config import CfgNode
from torch import Tensor, nn

from densedist.common.errors import UserError
from densedist.seg.losses.pixels import CrossEntropyLoss, FocalLoss, OHEMLoss
from densedist.seg.losses.regions import DiceLoss, LovaszLoss

logger = logging.getLogger(__name__)
MUCH = 0.5  # of a crop: OHEM that keeps more is hardly another loss than cross entropy


@dataclass(frozen=True)
class Loss:
    """A loss of MODEL.LOSS.<NAME>.

    Args:
        title: in the log, behind "loss_".
        words: in a report.
        build: of (MODEL.LOSS.<NAME>, weights of the classes, perhaps none).
        weighs_classes: whether it takes weights of the classes.
    """

    title: str
    words: str
    build: Callable[[CfgNode, Sequence[float]], nn.Module]
    weighs_classes: bool = False


LOSSES: Mapping[str, Loss] = {
    "CROSS_ENTROPY": Loss("ce", "cross entropy", lambda _, weights: CrossEntropyLoss(weights), weighs_classes=True),
    "OHEM": Loss(
        "ohem",
        "cross entropy of hard pixels (OHEM)",
        lambda node, weights: OHEMLoss(weights, node.THRESHOLD, node.MIN_KEPT),
        weighs_classes=True,
    ),
    "FOCAL": Loss("focal", "focal loss", lambda node, weights: FocalLoss(weights, node.GAMMA), weighs_classes=True),
    "DICE": Loss("dice", "Dice loss", lambda *_: DiceLoss()),
    "LOVASZ": Loss("lovasz", "Lovász loss", lambda *_: LovaszLoss()),
}


def switched_on(cfg: CfgNode) -> list[str]:
    """Return the names of the losses whose WEIGHT is above 0."""
    return [name for name in LOSSES if cfg.MODEL.LOSS[name].WEIGHT]


def check_kept(cfg: CfgNode) -> None:
    """Refuse OHEM that keeps every pixel of a training crop, which is cross entropy; warn where it keeps most.

    Raises:
        UserError: MODEL.LOSS.OHEM.MIN_KEPT is as much as INPUT.CROP_SIZE has, or more.
    """
    if "OHEM" not in switched_on(cfg):
        return
    kept, pixels = cfg.MODEL.LOSS.OHEM.MIN_KEPT, prod(cfg.INPUT.CROP_SIZE)
    said = f"MODEL.LOSS.OHEM.MIN_KEPT is {kept}, and a crop of INPUT.CROP_SIZE has {pixels} pixels"
    if kept >= pixels:
        raise UserError(
            f"{said}: OHEM would keep all, as cross entropy does; set it to a part, such as {max(pixels // 5, 1)}"
        )
    if kept > MUCH * pixels:
        logger.warning(f"{said}: OHEM keeps {kept / pixels:.0%} of them or more, and hardly differs from cross entropy")


class TaskLosses(nn.Module):
    """Losses with labels, each with its weight.

    Args:
        losses: by title.
        weights: by title.
        class_weights: that the losses were built with, perhaps none.
    """

    def __init__(
        self, losses: Mapping[str, nn.Module], weights: Mapping[str, float], class_weights: Sequence[float] = ()
    ) -> None:
        super().__init__()
        self.losses, self.weights, self.class_weights = nn.ModuleDict(losses), dict(weights), class_weights

    @classmethod
    def of(cls, cfg: CfgNode, class_weights: Sequence[float] = ()) -> "TaskLosses":
        """Build those of MODEL.LOSS whose WEIGHT is above 0."""
        nodes = {name: cfg.MODEL.LOSS[name] for name in switched_on(cfg)}
        return cls(
            {LOSSES[name].title: LOSSES[name].build(node, class_weights) for name, node in nodes.items()},
            {LOSSES[name].title: node.WEIGHT for name, node in nodes.items()},
            class_weights,
        )

    def forward(self, logits: Tensor, labels: Tensor, head: str = "", factor: float = 1.0) -> dict[str, Tensor]:
        """
        Args:
            logits: (N, K, H, W) at the labels' size.
            labels: trainIds (N, H, W), int64.
            head: of which head they are, for the names.
            factor: on all weights.

        Returns:
            0-dim losses by name, "loss_ce" and so on.
        """
        return {
            f"loss_{title}{head}": factor * self.weights[title] * loss(logits, labels)
            for title, loss in self.losses.items()
        }

    def __str__(self) -> str:
        return " + ".join(f"{weight}·{title}" for title, weight in self.weights.items())
