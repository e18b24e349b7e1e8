"""Batches of images with and without labels, as Detectron2's samples have "instances" or not."""

from collections.abc import Callable

from torch import Tensor

Losses = Callable[[list[dict]], dict[str, Tensor]]


def learn_and_imitate(inputs: list[dict], learn: Losses, imitate: Losses) -> dict[str, Tensor]:
    """The losses that learn gives for the labelled images, and imitate, named …_unlabeled, for the others."""
    labelled = [x for x in inputs if "instances" in x]
    unlabelled = [x for x in inputs if "instances" not in x]
    losses = learn(labelled) if labelled else {}
    if unlabelled:
        losses |= {f"{name}_unlabeled": loss for name, loss in imitate(unlabelled).items()}
    return losses
