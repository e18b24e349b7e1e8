"""From a path or a name to a network that somebody else has built."""

from collections.abc import Mapping, Sequence

from detectron2.config import CfgNode
from torch import Tensor, nn

from densedist.common.config.functions import call
from densedist.common.distill.speed import Part
from densedist.common.errors import UserError
from densedist.common.foreign.programs import read_program
from densedist.seg.foreign import transformers
from densedist.seg.foreign.model import ForeignModel
from densedist.seg.foreign.programs import ProgramModel
from densedist.seg.foreign.trial import try_out

TORCHVISION = {"out": "cls_logits", "aux": "aux_logits"}


def load_foreign(cfg: CfgNode, weights: str, key: str, size: Sequence[int]) -> ForeignModel:
    """Load the network of MODEL.KIND, another than SMP's, on MODEL.DEVICE, in eval mode.

    A folder of transformers and a program of `densedist export` say themselves how images are normalized; of others
    MODEL.PIXEL_MEAN and PIXEL_STD do.

    Args:
        weights: a file, a folder, or "module:function".
        key: what names them, for messages.
        size: height and width of an image, on which it is tried.

    Raises:
        UserError: what cannot be read, or does not give class logits, the same for the same image (see trial.py).
    """
    node = cfg.MODEL
    network: ForeignModel
    if node.KIND == "transformers":
        network = transformers.load(weights, key)
    elif node.KIND == "function":
        model = call(weights, cfg.IMPORTS, key)
        if not isinstance(model, nn.Module):
            raise UserError(f"{key}: {weights} returns {type(model).__name__}: want a torch.nn.Module")
        network = FunctionModel(model, node.PIXEL_MEAN, node.PIXEL_STD, node.STRIDE)
    else:
        program = read_program(node.KIND, weights, node.DEVICE, node.TRUST_PICKLE, key)
        mean, std = ([0.0] * 3, [1.0] * 3) if program.raw else (node.PIXEL_MEAN, node.PIXEL_STD)
        stride = 1 if program.raw and program.description else node.STRIDE  # what we exported pads by itself
        network = ProgramModel(program, mean, std, stride, f"{key}: {weights}")
    network = network.to(node.DEVICE).eval()
    try_out(network, size, f"{key}: {weights}")
    return network


def check_format(cfg: CfgNode, network: ForeignModel, source: str) -> None:
    """Make sure that a config's images have the order of channels that a network's own file asks for.

    Raises:
        UserError: they have the other one.
    """
    if network.channels not in ("", cfg.INPUT.FORMAT):
        raise UserError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT}, but {source} wants {network.channels}")


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

    def maps(self, batch: Tensor) -> dict[str, Tensor]:
        output = self.model(batch)
        if not isinstance(output, Mapping):
            return {"cls_logits": output}
        return {TORCHVISION.get(str(name), str(name)): value for name, value in output.items()}
