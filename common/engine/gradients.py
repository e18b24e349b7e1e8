"""Who pulls at the student: each loss's share of the gradient on the parameters that several losses train."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

LOOKS = 4  # in a run, about
APART = 20  # iterations between two looks, at least
PREFIX = "gradient/"  # of the shares among the logged numbers


def is_look(iteration: int, iterations: int) -> bool:
    """Whether a run of so many iterations looks at its gradients at one of them, from 0: few do, as it costs a backward
    pass for each loss."""
    return iteration % max(iterations // LOOKS, APART) == 0


def gradient_shares(losses: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> dict[str, float]:
    """For each loss the norm of its gradient, in percent of the sum of all losses' norms.

    Counted are the parameters that at least two losses train: a head that has a loss of its own alone says nothing of
    which loss decides. The graph stays as it is, for the backward pass to come.

    Args:
        losses: 0-dim, by name, as they are added up.
        parameters: that are trained.

    Returns:
        shares that add up to 100; empty where no parameter is shared, or all gradients are 0.
    """
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = {
        name: torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
        for name, loss in losses.items()
        if loss.requires_grad
    }
    counts = [
        sum(gradient is not None for gradient in of_losses) for of_losses in zip(*gradients.values(), strict=True)
    ]
    shared = [number for number, count in enumerate(counts) if count > 1]
    norms = {name: _norm([found[number] for number in shared]) for name, found in gradients.items()}
    total = sum(norms.values())
    return {name: 100 * norm / total for name, norm in norms.items()} if total > 0 else {}


def in_words(shares: Mapping[str, float]) -> str:
    """One line for the log, the largest share first."""
    largest = sorted(shares, key=lambda name: -shares[name])
    return "gradient on shared parameters: " + ", ".join(f"{name} {shares[name]:.0f} %" for name in largest)


def _norm(gradients: Sequence[Tensor | None]) -> float:
    norms = [gradient.double().norm() for gradient in gradients if gradient is not None]
    return float(torch.stack(norms).norm()) if norms else 0.0
