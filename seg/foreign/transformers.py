"""Semantic segmentation of Hugging Face's transformers: a folder of save_pretrained with its image processor."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densedist.common.errors import UserError
from densedist.common.foreign.transformers import PROCESSOR, open_folder
from densedist.common.modules import record
from densedist.seg.foreign.model import ForeignModel

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
UNIVERSAL = "ForUniversalSegmentation"


class TransformersModel(ForeignModel):
    """A model of transformers behind its processor's normalization.

    Args:
        model: gives `logits` (N, K, h, w), or classes and masks of queries, as Mask2Former does.
        names: of the classes.
        pixel_mean, pixel_std: see DenseModel.
    """

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
        return STRIDE

    def maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Return for a preprocessed batch (N, 3, H, W) "cls_logits" (N, K, h, w), and of the encoders that are known
        "features", the last of its maps."""
        encoder = _submodule(self.model, self._encoder) if self._encoder else None
        if encoder is None:
            return {"cls_logits": _dense_logits(self.model(pixel_values=batch))}
        # Of SegFormer the encoder gives its maps only where it is asked.
        more = {"output_hidden_states": True} if self._maps == "hidden_states" else {}
        with record(encoder, lambda _, output: output[self._maps][-1]) as maps:
            logits = _dense_logits(self.model(pixel_values=batch, **more))
        return {"cls_logits": logits, "features": maps[0]}


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
    universal = kind.endswith(UNIVERSAL)
    if not universal and not kind.endswith("ForSemanticSegmentation"):
        raise UserError(f"{folder.source} holds {kind}: want one …ForSemanticSegmentation or …{UNIVERSAL}")
    processor = folder.load_processor()
    model = folder.load(f"AutoModelFor{'UniversalSegmentation' if universal else 'SemanticSegmentation'}")
    network = TransformersModel(model, folder.names, *_pixels(processor))
    network.channels = "BGR" if getattr(processor, "do_flip_channel_order", False) else "RGB"
    _check_pixels(processor, network, folder.source)
    number = folder.config.get("semantic_loss_ignore_index")
    if isinstance(number, int) and 0 <= number < len(network.names):
        logger.warning(
            f"{folder.source} was trained without its class {network.names[number]} (semantic_loss_ignore_index is "
            f"{number}), so its output for this class means nothing"
        )
    return network


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
    keeps = {name: False for name in ("do_resize", "do_center_crop", "do_pad") if getattr(processor, name, False)}
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
