"""Each loss's share of the gradient on the parameters that several losses train."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

LOOKS = 4  # in a run, about
APART = 20  # iterations between two looks, at least
SMALLEST = 2.0**-8  # scale of a loss


def is_look(iteration: int, iterations: int) -> bool:
    """Return whether gradients are measured at an iteration: rarely, as it costs a backward pass for each loss."""
    return iteration % max(iterations // LOOKS, APART) == 0


def gradient_shares(losses: Mapping[str, Tensor], parameters: Sequence[Tensor], scale: float = 1.0) -> dict[str, float]:
    """Compute the norm of each loss's gradient, in percent of the sum of all losses' norms.

    Counted are the parameters that at least two losses train: a head that has a loss of its own alone says nothing of
    which loss decides. The graph stays as it is, for the backward pass to come.

    Args:
        losses: 0-dim, by name, as they are added up.
        parameters: the trained parameters.
        scale: factor on the losses, as a GradScaler has it: float16 has no number for small gradients. Where it has
            none for one that is so large, smaller scales are tried. What is returned does not depend on it.

    Returns:
        shares that add up to 100; empty where no parameter is shared, all gradients are 0, or one is not finite.
    """
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = {name: _gradients(loss, wanted, scale) for name, loss in losses.items() if loss.requires_grad}
    counts = [
        sum(gradient is not None for gradient in of_losses)
        for of_losses in zip(*(found for found, _ in gradients.values()), strict=True)
    ]
    shared = [number for number, count in enumerate(counts) if count > 1]
    norms = {name: _norm([found[number] for number in shared]) / used for name, (found, used) in gradients.items()}
    total = sum(norms.values())
    return {name: 100 * norm / total for name, norm in norms.items()} if 0 < total < math.inf else {}


def _gradients(loss: Tensor, wanted: Sequence[Tensor], scale: float) -> tuple[Sequence[Tensor | None], float]:
    """Return the gradients of a scaled loss, and the largest scale up to the given one that keeps them finite."""
    while True:
        found = torch.autograd.grad(loss * scale, wanted, retain_graph=True, allow_unused=True)
        if scale <= SMALLEST or all(gradient is None or gradient.isfinite().all() for gradient in found):
            return found, scale
        scale /= 16


def in_words(shares: Mapping[str, float]) -> str:
    """Return one line for the log, the largest share first."""
    largest = sorted(shares, key=lambda name: -shares[name])
    return "gradient on shared parameters: " + ", ".join(f"{name} {shares[name]:.0f} %" for name in largest)


def _norm(gradients: Sequence[Tensor | None]) -> float:
    norms = [gradient.double().norm() for gradient in gradients if gradient is not None]
    return float(torch.stack(norms).norm()) if norms else 0.0
