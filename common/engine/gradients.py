"""What the losses' gradients are on the parameters that several losses train: each one's share, and their angle."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from densedist.common.distributed import any_process

LOOKS = 4  # in a run, about
APART = 20  # iterations between two looks, at least
SMALLEST = 2.0**-8  # scale of a loss
MOST = 50  # percent of the gradient: more for distillation, and the labels decide little


class Gradients(NamedTuple):
    """Gradients on the parameters that at least two losses train.

    Args:
        shares: by loss the norm, in percent of the sum of all losses' norms; empty where no parameter is shared, all
            gradients are 0, or one is not finite.
        cosine: of the angle between distillation's gradient and that of the other losses, each summed; None where one
            of them is 0.
    """

    shares: dict[str, float]
    cosine: float | None


def is_look(iteration: int, iterations: int) -> bool:
    """Return whether gradients are measured at an iteration: rarely, as it costs a backward pass for each loss."""
    return iteration % max(iterations // LOOKS, APART) == 0


def gradient_shares(losses: Mapping[str, Tensor], parameters: Sequence[Tensor], scale: float = 1.0) -> dict[str, float]:
    """Return the shares alone: see compare_gradients."""
    return compare_gradients(losses, parameters, scale).shares


def compare_gradients(
    losses: Mapping[str, Tensor], parameters: Sequence[Tensor], scale: float = 1.0, distilled: Collection[str] = ()
) -> Gradients:
    """Compare the gradients of losses, in a batch of this process.

    A head that has a loss of its own alone says nothing of which loss decides, so it does not count. The graph stays as
    it is, for the backward pass to come. All processes call it with the same losses.

    Args:
        losses: 0-dim, by name, as they are added up.
        parameters: the trained parameters.
        scale: factor on the losses, as a GradScaler has it: float16 has no number for small gradients. Where it has
            none for one that is so large, smaller scales are tried. What is returned does not depend on it.
        distilled: the names of the losses of distillation.
    """
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = {name: _gradients(loss, wanted, scale) for name, loss in losses.items() if loss.requires_grad}
    counts = [
        sum(gradient is not None for gradient in of_losses)
        for of_losses in zip(*(found for found, _ in gradients.values()), strict=True)
    ]
    shared = [number for number, count in enumerate(counts) if count > 1]
    parts = {name: ([found[number] for number in shared], used) for name, (found, used) in gradients.items()}
    norms = {name: _norm(found) / used for name, (found, used) in parts.items()}
    total = sum(norms.values())
    if not 0 < total < math.inf:
        return Gradients({}, None)
    shares = {name: 100 * norm / total for name, norm in norms.items()}
    sides = [[part for name, part in parts.items() if (name in distilled) == side] for side in (False, True)]
    return Gradients(shares, _cosine(*map(_sum, sides)) if all(sides) else None)


def _gradients(loss: Tensor, wanted: Sequence[Tensor], scale: float) -> tuple[Sequence[Tensor | None], float]:
    """Return the gradients of a scaled loss, and the largest scale up to the given one that keeps them finite on every
    process: synchronized batch norm makes them wait for one another on the way back."""
    while True:
        found = torch.autograd.grad(loss * scale, wanted, retain_graph=True, allow_unused=True)
        bad = scale > SMALLEST and not all(gradient is None or gradient.isfinite().all() for gradient in found)
        if not any_process(bad, loss.device):
            return found, scale
        scale /= 16


def in_words(gradients: Gradients) -> str:
    """Return one line for the log, the largest share first."""
    shares = gradients.shares
    largest = sorted(shares, key=lambda name: -shares[name])
    line = "gradient on shared parameters: " + ", ".join(f"{name} {shares[name]:.0f} %" for name in largest)
    return line if gradients.cosine is None else f"{line}; cosine of distillation and task {gradients.cosine:.2f}"


def outweighs(gradients: Gradients, distilled: Collection[str]) -> bool:
    """Return whether the losses of distillation have most of the gradient."""
    return sum(share for name, share in gradients.shares.items() if name in distilled) > MOST


def _norm(gradients: Sequence[Tensor | None]) -> float:
    norms = [gradient.double().norm() for gradient in gradients if gradient is not None]
    return float(torch.stack(norms).norm()) if norms else 0.0


def _sum(parts: Sequence[tuple[Sequence[Tensor | None], float]]) -> list[Tensor | None]:
    """Return the sum of several losses' gradients, each divided by its scale."""
    if len(parts) == 1:
        return list(parts[0][0])  # an angle does not depend on the scale
    totals: list[Tensor | None] = []
    for of_losses in zip(*([None if x is None else x / scale for x in found] for found, scale in parts), strict=True):
        there = [x for x in of_losses if x is not None]
        totals.append(torch.stack(there).sum(0) if there else None)
    return totals


def _cosine(one: Sequence[Tensor | None], other: Sequence[Tensor | None]) -> float | None:
    lengths = _norm(one) * _norm(other)
    pairs = zip(one, other, strict=True)
    products = [(x.double() * y.double()).sum() for x, y in pairs if x is not None and y is not None]
    return float(torch.stack(products).sum()) / lengths if lengths and products else None
