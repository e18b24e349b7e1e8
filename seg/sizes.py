"""Which sizes of images a model of SMP takes."""

import logging
import math
from collections.abc import Callable, Mapping

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationModel

from densedist.common.errors import UserError, one_line
from densedist.common.modules import eval_mode

logger = logging.getLogger(__name__)

# Arguments by which timm makes an encoder of one image size one of any size: ViT's and Swin's.
ANY_SIZE: tuple[Mapping[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})


def divisor(model: SegmentationModel) -> int:
    """What height and width of a batch have to be multiples of."""
    stride: int = model.encoder.output_stride
    if isinstance(model, smp.DPT):
        # It makes maps of 1/4, 1/8, … of the image of its encoder's, and adds each to the next, scaled up by 2.
        return math.lcm(stride, 2 ** (len(model.encoder.out_channels) + 1))
    return stride


def build_for_any_size(
    build: Callable[[Mapping[str, bool]], SegmentationModel], encoder: str
) -> tuple[SegmentationModel, Mapping[str, bool]]:
    """A model that takes images of any size, made so where its encoder is for one size only.

    Args:
        build: makes the model with more arguments, and raises UserError where it cannot.
        encoder: what names it, for the message.

    Returns:
        the model, and the arguments that it took.

    Raises:
        UserError: a model that cannot be built, or that cannot be made to take images of any size.
    """
    model = build({})
    if not (reason := _complaint(model)):
        return model, {}
    for more in ANY_SIZE:
        try:
            other = build(more)
        except UserError:
            continue  # the encoder does not know this argument, or the user has set it
        if not _complaint(other):
            logger.info(f"{encoder} gets {' '.join(more)}, so that it takes images of any size")
            return other, more
    raise UserError(f"{encoder} {reason}; want an encoder for images of any size")


def _complaint(model: SegmentationModel) -> str:
    """What is wrong with the model if it takes only images of one size; else empty."""
    known = getattr(getattr(model.encoder, "model", None), "pretrained_cfg", None) or {}
    if not known.get("fixed_input_size"):
        return ""
    step = divisor(model)
    height = math.ceil(64 / step) * step
    try:
        with torch.no_grad(), eval_mode(model):
            model(torch.zeros(1, 3, height, height + step))
    except Exception as error:
        size = "x".join(map(str, known["input_size"][1:]))
        return f"is for images of {size}, and fails on others: {one_line(error)}"
    return ""
