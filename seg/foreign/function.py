"""A network that a function of one's own makes: "module:function"."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from densedist.common.distill.faster import Part
from densedist.seg.foreign.model import ForeignModel

TORCHVISION = {"out": "cls_logits", "aux": "aux_logits"}


class FunctionModel(ForeignModel):
    """Any module behind a normalization.

    Args:
        model: gives for a batch (N, 3, H, W) logits (N, K, h, w), or these by name: "cls_logits", and if it likes
            "aux_logits" and "features" (N, C, h, w). Torchvision's names "out" and "aux" stand for the first two.
        pixel_mean, pixel_std: see DenseModel.
        stride: what height and width of its images are multiples of.
    """

    def __init__(self, model: nn.Module, pixel_mean: Sequence[float], pixel_std: Sequence[float], stride: int) -> None:
        super().__init__(pixel_mean, pixel_std)
        self.model, self._stride = model, stride

    @property
    def divisor(self) -> int:
        return self._stride

    @property
    def parts(self) -> list[Part]:
        return [(self, "model")]

    def taps(self, batch: Tensor) -> dict[str, Tensor]:
        output = self.model(batch)
        if not isinstance(output, Mapping):
            return {"cls_logits": output}
        return {TORCHVISION.get(str(name), str(name)): value for name, value in output.items()}
