"""SMP's models: built from a config, or read from a folder that SMP wrote."""

import inspect
from collections.abc import Callable

import segmentation_models_pytorch as smp
from detectron2.config import CfgNode
from segmentation_models_pytorch.base import SegmentationModel
from torch import nn

from densedist.common.errors import UserError, one_line
from densedist.seg.labels import Classes

ARCHITECTURES = {
    c.__name__: c
    for c in vars(smp).values()
    if isinstance(c, type) and issubclass(c, SegmentationModel) and c is not SegmentationModel
}


def build_smp(cfg: CfgNode) -> SegmentationModel:
    """The SMP model of MODEL.*, with logits at its head's resolution.

    Raises:
        UserError: what SMP cannot build, or encoder weights that cannot be fetched.
    """
    node = cfg.MODEL
    if node.ARCHITECTURE not in ARCHITECTURES:
        raise UserError(f"MODEL.ARCHITECTURE: SMP has no {node.ARCHITECTURE}; want {', '.join(sorted(ARCHITECTURES))}")
    architecture: Callable[..., SegmentationModel] = ARCHITECTURES[node.ARCHITECTURE]
    known = inspect.signature(architecture.__init__).parameters
    arguments = {
        "encoder_name": node.ENCODER.NAME,
        "encoder_depth": node.ENCODER.DEPTH,
        "classes": len(Classes.of(cfg)),
    }
    if "upsampling" in known:
        arguments["upsampling"] = 1
    if stride := node.ENCODER.OUTPUT_STRIDE:
        # Architectures without an argument of their own pass it on to the encoder.
        arguments["encoder_output_stride" if "encoder_output_stride" in known else "output_stride"] = stride
    arguments |= node.ARGS
    try:
        model = architecture(encoder_weights=None, **arguments)
    except Exception as error:
        raise UserError(f"MODEL: SMP cannot build this {node.ARCHITECTURE}: {one_line(error)}") from error
    if not node.ENCODER.WEIGHTS:
        return model
    try:
        return architecture(encoder_weights=node.ENCODER.WEIGHTS, **arguments)
    except Exception as error:
        raise UserError(
            f"MODEL.ENCODER.WEIGHTS: cannot get {node.ENCODER.WEIGHTS} for {node.ENCODER.NAME}: {one_line(error)}; "
            "without a network copy Hugging Face's cache here, or leave the key empty for random weights"
        ) from error


def read_smp_folder(folder: str, key: str) -> SegmentationModel:
    """The model that save_pretrained wrote to folder, with logits at its head's resolution.

    Raises:
        UserError: no such model.
    """
    try:
        model = smp.from_pretrained(folder)
        if "upsampling" in inspect.signature(type(model)).parameters:
            model = smp.from_pretrained(folder, upsampling=1)
    except Exception as error:
        raise UserError(f"{key}: {folder} is no folder of SMP's save_pretrained: {one_line(error)}") from error
    return model


def count_classes(model: SegmentationModel) -> int:
    """Channels of the model's logits."""
    convolutions = [m for m in model.segmentation_head.modules() if isinstance(m, nn.Conv2d)]
    return convolutions[-1].out_channels
