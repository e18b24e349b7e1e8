"""What all foreign networks have in common: what their author made them give, as the class logits that teach."""

from collections.abc import Sequence

import torch
from torch import Tensor

from densedist.seg.networks.dense import DenseModel


class ForeignModel(DenseModel):
    """A network of somebody else behind a normalization; a subclass gives its maps.

    Attributes:
        says_logits: its library says that it gives logits, whatever they look like.
        channels: "RGB" or "BGR", where its file says which images it wants.
        probabilities: names of maps that are class probabilities; their logarithms are taken, whose softmax they are.
    """

    align_corners = False
    says_logits = False
    channels = ""
    probabilities: Sequence[str] = ()

    @property
    def identity(self) -> tuple[str, ...]:
        return tuple(f"log of {name}" for name in self.probabilities)

    def takes_one(self) -> bool:
        """Switch to one image at a time; return whether that is possible."""
        return False

    def maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Return maps by name for a normalized batch (N, 3, H, W), as the network gives them."""
        raise NotImplementedError

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """Return what maps() gives, with logits in place of probabilities."""
        found = self.maps(batch)
        return found | {name: _logarithm(found[name]) for name in self.probabilities if name in found}


def _logarithm(probabilities: Tensor) -> Tensor:
    """Return finite logarithms: a probability of 0 counts as the smallest number of its precision."""
    # 6e-8 is the smallest float16; those of float32 and bfloat16 below `tiny` are 0 on some GPUs.
    least = 6e-8 if probabilities.dtype == torch.float16 else torch.finfo(torch.float32).tiny
    return probabilities.float().clamp(min=least).log().to(probabilities.dtype)
