"""Ways to take a run's steps: as the config says, and those that would shorten it."""

from dataclasses import dataclass

from densedist.common.plan.cards import Card
from densedist.common.plan.step import KEPT, OPTIMIZER, Step
from densedist.common.plan.tally import Operator, Peak

ROOM = 0.9  # of a card's memory that a plan fills: the rest is for CUDA, cuDNN and gaps of PyTorch's allocator
HOUR = 3600


@dataclass(frozen=True)
class Way:
    """A run by one way.

    Args:
        title: what is set otherwise than in the config.
        step: of which operators and tensors are taken, in proportion to the images.
        images: of a forward pass on a card.
        cached: a cache has what the teacher gives.
        passes: forward and backward passes of a step.
        cards: how many.
        iterations: of the run.
    """

    title: str
    step: Step
    images: int
    cached: bool
    passes: int
    cards: int
    iterations: float

    @property
    def fixed(self) -> dict[str, int]:
        """Return the bytes on a card that do not depend on the batch, by what they are."""
        step = self.step
        each = {
            "student's weights": step.weights,
            "their average": step.average,
            "optimizer": step.optimizer,
            "gradients on their way between cards": step.gradients if self.cards > 1 else 0,
            "teacher's weights": step.teacher,
        }
        return {name: size for name, size in each.items() if size}

    def worst(self, larger: float = 1.0) -> Peak:
        """Return the worst moment of the rest: all of it, and what of it are gradients.

        Args:
            larger: how many times larger the images are than those of the step.
        """
        factor = larger * self.images / self.step.images
        return max(Peak(int(factor * (p.total - p.gradients)) + p.gradients, p.gradients) for p in self.peaks)

    @property
    def peaks(self) -> list[Peak]:
        """Return the worst moment of each part of the step."""
        return [peak for part, peak in self.step.peaks.items() if not (self.cached and part == KEPT)]

    def memory(self, larger: float = 1.0) -> int:
        """Return the bytes that PyTorch allocates on a card at the worst moment; see worst."""
        return sum(self.fixed.values()) + self.worst(larger).total

    def fits(self, card: Card, larger: float = 1.0) -> bool:
        return self.memory(larger) <= ROOM * card.memory

    def operators(self) -> list[tuple[Operator, float]]:
        """Return the operators of a step, each with how often, or for how many times as many images, it runs."""
        factor = self.passes * self.images / self.step.images
        kept = (o for o in self.step.operators if not (self.cached and o.part == KEPT))
        return [(operator, 1.0 if operator.part == OPTIMIZER else factor) for operator in kept]

    def seconds(self, card: Card) -> float:
        """Return a lower bound of the time of a step."""
        return sum(factor * least_seconds(operator, card) for operator, factor in self.operators())

    def hours(self, card: Card) -> float:
        """Return a lower bound of the time of the run."""
        return self.iterations * self.seconds(card) / HOUR


def least_seconds(operator: Operator, card: Card) -> float:
    """Return how long an operator takes at least: at the card's peak, or at its bandwidth, whatever is slower.

    By default PyTorch rounds the operands of convolutions in float32 to TF32, and not those of matrix products.
    """
    computing = operator.flops / card.peak(operator.dtype, rounded=operator.convolution)
    return max(computing, operator.moved / card.bandwidth)


def largest_batch(way: Way, card: Card, larger: float) -> int:
    """Return how many images a card can take at a time; see Way.worst for larger."""
    room = ROOM * card.memory - sum(way.fixed.values())
    each = ((room - p.gradients) / (p.total - p.gradients) for p in way.peaks)
    return max(int(min(each) * way.step.images / larger), 0)
