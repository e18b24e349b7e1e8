"""Semantic segmentation of Hugging Face's transformers: a folder of save_pretrained with its image processor."""

import logging
from collections.abc import Iterable, Sequence
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn

from densedist.common.errors import UserError
from densedist.common.foreign.transformers import PROCESSOR, open_folder
from densedist.common.modules import record
from densedist.seg.foreign.model import ForeignModel
from densedist.seg.networks.windows import at_own_size

logger = logging.getLogger(__name__)
SIDE = 64  # of an image that the processor is tried on: a multiple of what they pad to
# What height and width are multiples of: the coarsest maps of these networks.
STRIDE = 32
# Names of the submodules that hold an encoder, from the outside in, and of what those give that holds its maps.
ENCODERS = (
    ("model.pixel_level_module.encoder", "feature_maps"),  # Mask2Former
    ("segformer", "hidden_states"),
    ("backbone", "feature_maps"),  # UPerNet
)
UNIVERSAL, MASKFORMER = "ForUniversalSegmentation", "MaskFormerForInstanceSegmentation"


class TransformersModel(ForeignModel):
    """A model of transformers behind its processor's normalization.

    Args:
        model: gives `logits` (N, K, h, w), or classes and masks of queries, as Mask2Former does.
        names: of the classes.
        pixel_mean, pixel_std: see DenseModel.

    Attributes:
        own_size: height and width of the only images that it takes; None = it takes several.
    """

    own_size: tuple[int, int] | None = None
    says_pixels = says_logits = True

    def __init__(
        self, model: Any, names: Sequence[str], pixel_mean: Sequence[float], pixel_std: Sequence[float]
    ) -> None:
        super().__init__(pixel_mean, pixel_std)
        self.model, self.names = model, tuple(names)
        self.to(memory_format=torch.channels_last)
        found = [(path, maps) for path, maps in ENCODERS if _submodule(model, path) is not None]
        self._encoder, self._maps = found[0] if found else ("", "")

    @property
    def divisor(self) -> int:
        return 1 if self.own_size else STRIDE

    @property
    def identity(self) -> tuple[str, ...]:
        return (*super().identity, *([f"at {self.own_size}"] if self.own_size else []))

    def maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Return for a preprocessed batch (N, 3, H, W) "cls_logits" (N, K, h, w), and of the encoders that are known
        "features", the last of its maps. A model of one size gives class logits alone."""
        if self.own_size:
            return {"cls_logits": at_own_size(self.logits, batch, self.own_size)}
        encoder = _submodule(self.model, self._encoder) if self._encoder else None
        if encoder is None:
            return {"cls_logits": self.logits(batch)}
        # Of SegFormer the encoder gives its maps only where it is asked.
        more = {"output_hidden_states": True} if self._maps == "hidden_states" else {}
        with record(encoder, lambda _, output: output[self._maps][-1]) as maps:
            logits = _dense_logits(self.model(pixel_values=batch, **more))
        return {"cls_logits": logits, "features": maps[0]}

    def logits(self, batch: Tensor) -> Tensor:
        """Return class logits (N, K, h, w) for a batch of a size that the model takes."""
        return _dense_logits(self.model(pixel_values=batch.contiguous(memory_format=torch.channels_last)))


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _dense_logits(output: Any) -> Tensor:
    """Return logits (N, K, h, w) whose softmax are the class probabilities of a pixel.

    Of queries (Cheng et al., CVPR 2022): the score of a class at a pixel is the sum over the queries of its probability
    times that of the mask, without the class "nothing"; these logarithms are logits of the normalized scores.
    """
    if "logits" in output:
        return output["logits"]
    classes = output["class_queries_logits"].float().softmax(-1)[..., :-1]
    masks = output["masks_queries_logits"].float().sigmoid()
    scores = torch.einsum("nqk,nqhw->nkhw", classes, masks)
    return scores.clamp(min=torch.finfo(torch.float32).tiny).log()


def load(path: str, key: str) -> TransformersModel:
    """Load the model in a folder of save_pretrained, in float32, with its processor's mean, deviation and channels.

    Args:
        key: what names the folder, for messages.

    Raises:
        UserError: no such folder, a model for something else, or the package transformers is missing.
    """
    folder = open_folder(path, key)
    kind = folder.architecture
    universal = kind.endswith(UNIVERSAL) or kind == MASKFORMER
    if not universal and not kind.endswith("ForSemanticSegmentation"):
        raise UserError(f"{folder.source} holds {kind}: want one …ForSemanticSegmentation or …{UNIVERSAL}")
    processor = folder.load_processor()
    model = folder.load(f"AutoModelFor{'UniversalSegmentation' if universal else 'SemanticSegmentation'}")
    if more := [name for name, one in signature(model.forward).parameters.items() if _is_wanted(name, one)]:
        raise UserError(
            f"{folder.source} holds {kind}, which wants {more[0]}, and not an image alone: take another model"
        )
    network = TransformersModel(model, folder.names, *_pixels(processor))
    network.own_size = _own_size(network)
    network.channels = "BGR" if getattr(processor, "do_flip_channel_order", False) else "RGB"
    _check_pixels(processor, network, folder.source)
    number = folder.config.get("semantic_loss_ignore_index")
    if isinstance(number, int) and 0 <= number < len(network.names):
        logger.warning(
            f"{folder.source} was trained without its class {network.names[number]} (semantic_loss_ignore_index is "
            f"{number}), so its output for this class means nothing"
        )
    return network


def _is_wanted(name: str, parameter: Parameter) -> bool:
    """Return whether a model has to be given a parameter that is no image."""
    return parameter.default is Parameter.empty and parameter.kind <= 1 and name not in ("self", "pixel_values")


@torch.no_grad()
def _own_size(network: TransformersModel) -> tuple[int, int] | None:
    """Return height and width of the only images that a model takes; None where it takes others than its config says,
    or says nothing. Models with position embeddings of one size are such (EoMT, Data2Vec), and DPT takes only squares.
    """
    config = network.model.config
    given = getattr(config, "image_size", None) or getattr(getattr(config, "backbone_config", None), "image_size", None)
    if not given:
        return None
    height, width = given if isinstance(given, Iterable) else (given, given)
    network.eval()
    try:
        network.logits(network.mean.new_zeros(1, 3, height, width + STRIDE))
    except Exception:  # theirs are many
        return int(height), int(width)
    return None


def _pixels(processor: Any) -> tuple[list[float], list[float]]:
    """Return mean and deviation of pixels of 0 to 255, in the order of channels that the model wants."""
    does = {name: getattr(processor, f"do_{name}", None) for name in ("rescale", "normalize", "flip_channel_order")}
    factor = processor.rescale_factor if does["rescale"] else 1.0
    sides = (processor.image_mean, processor.image_std) if does["normalize"] else ([0.0] * 3, [1.0] * 3)
    step = -1 if does["flip_channel_order"] else 1  # the last thing that is done
    mean, std = ([value / factor for value in side][::step] for side in sides)
    return mean, std


def _check_pixels(processor: Any, network: TransformersModel, source: str) -> None:
    """Refuse a processor that gives a model other pixels than we do, in anything but their size.

    Raises:
        UserError: it does.
    """
    image = torch.randint(256, (3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    keeps = {
        name: False
        for name in ("do_resize", "do_center_crop", "do_pad", "do_split_image")
        if getattr(processor, name, False)
    }
    try:
        theirs = processor(images=[image.to(torch.uint8)], return_tensors="pt", **keeps)["pixel_values"]
    except Exception:  # it wants more than an image
        logger.info(f"{source}: its processor was not tried")
        return
    ours = network.preprocess([image.flip(0) if network.channels == "BGR" else image])
    if theirs.shape == ours.shape and not torch.allclose(theirs.float(), ours, rtol=0, atol=1e-3):
        raise UserError(
            f"{source}: {PROCESSOR} changes pixels by more than do_rescale, do_normalize and do_flip_channel_order "
            "say: such a model can teach as a function"
        )
