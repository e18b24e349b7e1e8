"""SMP's models: built from a config, or read from a folder that SMP wrote."""

import inspect
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from detectron2.config import CfgNode
from huggingface_hub import snapshot_download, try_to_load_from_cache
from segmentation_models_pytorch.base import SegmentationModel
from torch import nn

from densedist.common.errors import UserError, one_line
from densedist.common.modules import eval_mode
from densedist.common.pretrained import REMEDY, answering_hub, from_package
from densedist.seg.labels import Classes
from densedist.seg.networks.dist_networks import DISTDeepLabV3, DISTPSPNet

logger = logging.getLogger(__name__)
ARCHITECTURES = {
    c.__name__: c
    for c in [*vars(smp).values(), DISTDeepLabV3, DISTPSPNet]
    if isinstance(c, type) and issubclass(c, SegmentationModel) and c is not SegmentationModel
}
# What MODEL.ARGS may not hold, and why.
NOT_ARGUMENTS = {
    "classes": "DATASETS.CLASSES says how many there are",
    "encoder_name": "MODEL.ENCODER.NAME says it",
    "encoder_depth": "MODEL.ENCODER.DEPTH says it",
    "encoder_weights": "MODEL.ENCODER.WEIGHTS says it",
    "encoder_output_stride": "MODEL.ENCODER.OUTPUT_STRIDE says it",
    "output_stride": "MODEL.ENCODER.OUTPUT_STRIDE says it",
    "upsampling": "logits are brought to the images' size in any case",
    "activation": "losses and predictions want raw logits",
    "in_channels": "images have three channels, in the order of INPUT.FORMAT",
    "aux_params": "nothing here uses a classifier beside the mask; MODEL.AUX_HEAD.ENABLED adds a dense auxiliary head",
}
# But with these values they say nothing.
HARMLESS = {"activation": None, "in_channels": 3, "aux_params": None}
# All of a folder that SMP needs; a pickle in it is neither fetched nor read.
SMP_FILES = ("config.json", "model.safetensors")
# Arguments by which timm makes an encoder of one image size one of any size: ViT's and Swin's.
ANY_SIZE: tuple[Mapping[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})


def build_smp(cfg: CfgNode) -> SegmentationModel:
    """Build the SMP model of MODEL.*, with logits at its head's resolution.

    Raises:
        UserError: what SMP cannot build, or encoder weights that cannot be fetched.
    """
    node = cfg.MODEL
    if node.ARCHITECTURE not in ARCHITECTURES:
        raise UserError(f"MODEL.ARCHITECTURE: there is no {node.ARCHITECTURE}; want {', '.join(sorted(ARCHITECTURES))}")
    architecture: Callable[..., SegmentationModel] = ARCHITECTURES[node.ARCHITECTURE]
    known = inspect.signature(architecture.__init__).parameters
    arguments = {
        "encoder_name": node.ENCODER.NAME,
        "encoder_depth": node.ENCODER.DEPTH,
        "classes": len(Classes.of(cfg)),
    }
    _check_arguments(node.ARGS)
    if "upsampling" in known:
        arguments["upsampling"] = 1
    if stride := node.ENCODER.OUTPUT_STRIDE:
        # Architectures without an argument of their own pass it on to the encoder.
        arguments["encoder_output_stride" if "encoder_output_stride" in known else "output_stride"] = stride
    arguments |= node.ARGS

    def build(more: Mapping[str, bool]) -> SegmentationModel:
        try:
            return architecture(encoder_weights=None, **arguments, **more)
        except Exception as error:
            raise UserError(f"MODEL: SMP cannot build this {node.ARCHITECTURE}: {one_line(error)}") from error

    model, more = build_for_any_size(build, f"MODEL.ENCODER.NAME: {node.ENCODER.NAME}")
    if not node.ENCODER.WEIGHTS:
        return model
    try:
        weights, packaged = node.ENCODER.WEIGHTS, {}
        if weights == "imagenet":
            packaged = from_package(node.ENCODER.NAME, arguments)
            # What SMP wants to hear for timm's encoders, whose name says which weights they are.
            weights = True if node.ENCODER.NAME.startswith("tu-") else weights
        with answering_hub(needed=not packaged):
            return architecture(encoder_weights=weights, **arguments, **more, **packaged)
    except Exception as error:
        raise UserError(
            f"MODEL.ENCODER.WEIGHTS: cannot get {node.ENCODER.WEIGHTS} for {node.ENCODER.NAME}: {one_line(error)}; "
            f"{REMEDY}; or leave the key empty for random weights"
        ) from error


def fetch_smp_folder(name: str, key: str) -> str:
    """Return the folder of the model "owner/name" in Hugging Face's cache; fetch what is not there.

    Args:
        key: what names the model, for messages.

    Raises:
        UserError: there is no such model, or no network.
    """
    try:
        with answering_hub():
            return snapshot_download(name, allow_patterns=list(SMP_FILES))
    except Exception as error:
        raise UserError(
            f"{key}: there is no file or folder {name}, and Hugging Face's hub does not give it: {one_line(error)}; "
            "without a network copy Hugging Face's cache here, or name a folder of SMP's save_pretrained"
        ) from error


def read_smp_folder(folder: str, key: str) -> SegmentationModel:
    """Read the model that save_pretrained wrote to folder, with raw logits at its head's resolution.

    Raises:
        UserError: no such model, or one of other images than of three channels, or with a classifier.
    """
    # SMP would first fetch the encoder's weights that training started from, over which the folder's then go.
    arguments: dict[str, Any] = {"encoder_weights": None, "activation": None}
    with _refusing_folder(folder, key):
        written = json.loads((Path(folder) / "config.json").read_text())
        if "upsampling" in inspect.signature(getattr(smp, written["_model_class"])).parameters:
            arguments["upsampling"] = 1
    for name in ("in_channels", "aux_params"):
        if written.get(name, HARMLESS[name]) != HARMLESS[name]:
            raise UserError(f"{key}: {folder} was made with {name} {written[name]}: {NOT_ARGUMENTS[name]}")
    if (activation := written.get("activation")) not in (None, "identity"):
        logger.info(f"{folder}: without its activation {activation}, for {NOT_ARGUMENTS['activation']}")

    def read(more: Mapping[str, bool]) -> SegmentationModel:
        with _refusing_folder(folder, key):
            return smp.from_pretrained(folder, **arguments, **more)

    return build_for_any_size(read, f"{key}: the encoder of {folder}")[0]


def build_for_any_size(
    build: Callable[[Mapping[str, bool]], SegmentationModel], encoder: str
) -> tuple[SegmentationModel, Mapping[str, bool]]:
    """Build a model that takes images of any size, also where its encoder is for one size only.

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


def count_classes(model: SegmentationModel) -> int:
    """Return how many channels the model's logits have."""
    convolutions = [m for m in model.segmentation_head.modules() if isinstance(m, nn.Conv2d)]
    return convolutions[-1].out_channels


def divisor(model: SegmentationModel) -> int:
    """Return what height and width of a batch have to be multiples of."""
    stride: int = model.encoder.output_stride
    if isinstance(model, smp.DPT):
        # It makes maps of 1/4, 1/8, … of the image of its encoder's, and adds each to the next, scaled up by 2.
        return math.lcm(stride, 2 ** (len(model.encoder.out_channels) + 1))
    return stride


def pixels_of(encoder: str, weights: str) -> Mapping[str, Any]:
    """Return what timm or SMP says of the images that an encoder's weights were trained on (mean, std, …); of SMP's own
    encoders only where Hugging Face's cache has it, as it does when the weights were fetched; empty = not known."""
    if encoder.startswith("tu-"):
        found = timm.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=True)
        return found.to_dict() if found else {}
    source = smp.encoders.encoders.get(encoder, {}).get("pretrained_settings", {}).get(weights, {})
    file = try_to_load_from_cache(source["repo_id"], "config.json", revision=source["revision"]) if source else None
    return json.loads(Path(file).read_text()) if isinstance(file, str) else {}


def _check_arguments(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in NOT_ARGUMENTS and (name not in HARMLESS or value != HARMLESS[name]):
            raise UserError(f"MODEL.ARGS.{name}: leave it out, for {NOT_ARGUMENTS[name]}")


@contextmanager
def _refusing_folder(folder: str, key: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise UserError(f"{key}: {folder} is no folder of SMP's save_pretrained: {one_line(error)}") from error


def _complaint(model: SegmentationModel) -> str:
    """Say what is wrong with a model that takes only images of one size; else ""."""
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
