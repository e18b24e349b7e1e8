"""Segmentation checkpoints of the DIST and CIRKD authors: DeepLabV3 and PSPNet on dilated ResNets."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from densedist.common.errors import UserError
from densedist.common.importing.importer import Converted, Foreign, Importer
from densedist.common.importing.renaming import Rule, rename
from densedist.seg.importing.common import CITYSCAPES, FC, converted, encoder_of

# Their images are BGR, and only their mean is taken off.
PIXELS: Mapping[str, Any] = {
    "MODEL": {"PIXEL_MEAN": [104.00698793, 116.66876762, 122.67891434], "PIXEL_STD": [1.0, 1.0, 1.0]},
    "INPUT": {"FORMAT": "BGR"},
}
# Three convolutions at the beginning, each with a norm, in one sequence of timm's but for the last norm.
DEEP_STEM: tuple[Rule, ...] = (
    *((rf"conv{n}\.(.+)", rf"encoder.model.conv1.{3 * (n - 1)}.\1") for n in (1, 2, 3)),
    *((rf"bn{n}\.(.+)", rf"encoder.model.conv1.{3 * n - 2}.\1") for n in (1, 2)),
    (r"bn3\.(.+)", r"encoder.model.bn1.\1"),
)
STEM: tuple[Rule, ...] = ((r"(conv1|bn1)\.(.+)", r"encoder.model.\1.\2"),)
STAGES: tuple[Rule, ...] = ((r"(layer\d\..+)", r"encoder.model.\1"),)
DEEPLAB: tuple[Rule, ...] = (
    (r"head\.aspp\.b0\.(.+)", r"decoder.aspp.convs.0.\1"),
    (r"head\.aspp\.b([123])\.block\.(.+)", r"decoder.aspp.convs.\1.\2"),
    (r"head\.aspp\.b4\.gap\.(.+)", r"decoder.aspp.convs.4.\1"),
    (r"head\.aspp\.project\.(.+)", r"decoder.aspp.project.\1"),
    (r"head\.block\.0\.(.+)", r"decoder.conv.\1"),
    (r"head\.block\.1\.(.+)", r"decoder.bn.\1"),
    (r"head\.block\.4\.(.+)", r"segmentation_head.0.\1"),
)
PSP: tuple[Rule, ...] = (
    *((rf"head\.psp\.conv{n}\.([01])\.(.+)", rf"decoder.psp.blocks.{n - 1}.pool.1.\1.\2") for n in (1, 2, 3, 4)),
    (r"head\.block\.([01])\.(.+)", r"decoder.conv.\1.\2"),
    (r"head\.classifier\.(.+)", r"segmentation_head.0.\1"),
)
AUXILIARY: tuple[Rule, ...] = ((r"auxlayer\.block\.(.+)", r"aux_head.\1"),)
BACKBONE = "pretrained."
JOINT = "decoder.conv.0.weight"  # of the pyramid's branches and the map that they were pooled from


def convert(foreign: Foreign, options: Mapping[str, str]) -> Converted:
    """Convert a whole network, whose ResNet has their deep stem or torchvision's ("vanilla").

    Raises:
        UserError: another head, or a ResNet that has no name.
    """
    tensors = foreign.tensors
    inner = {name.removeprefix(BACKBONE): t for name, t in tensors.items() if name.startswith(BACKBONE)}
    encoder, arguments = encoder_of(inner, deep="conv2.weight" in inner)
    is_psp = "head.psp.conv1.0.weight" in tensors
    if not is_psp and "head.aspp.b0.0.weight" not in tensors:
        raise UserError("its head is neither of DeepLabV3 nor of PSPNet: these two can be imported")
    stem = DEEP_STEM if "conv2.weight" in inner else STEM
    rules = [(rf"pretrained\.{theirs}", ours) for theirs, ours in (*stem, *STAGES)]
    renamed, unused = rename(
        tensors, [*rules, *(PSP if is_psp else DEEPLAB), *AUXILIARY], {rf"pretrained\.{FC}": "of ImageNet's classes"}
    )
    if is_psp:
        renamed[JOINT] = _pooled_first(renamed[JOINT])
    width = tensors["head.block.0.weight"].shape[0]
    model = {
        "ARCHITECTURE": "DISTPSPNet" if is_psp else "DISTDeepLabV3",
        "ENCODER": {"NAME": encoder, "DEPTH": 5, "OUTPUT_STRIDE": 8},
        "ARGS": {**arguments, "psp_out_channels" if is_psp else "decoder_channels": width},
    }
    classes = tensors["head.classifier.weight" if is_psp else "head.block.4.weight"].shape[0]
    return converted(renamed, unused, model | PIXELS["MODEL"], PIXELS["INPUT"], classes, CITYSCAPES)


def _pooled_first(weight: Tensor) -> Tensor:
    """Exchange both halves of the inputs of (outputs, 2 C, 3, 3): they join the map and its branches, SMP the branches
    and the map."""
    return weight.roll(weight.shape[1] // 2, 1)


def convert_backbone(foreign: Foreign, options: Mapping[str, str]) -> Converted:
    """Convert their ResNet with a deep stem, trained on ImageNet: what MODEL.WEIGHTS of their networks starts from.

    Raises:
        UserError: a ResNet that has no name.
    """
    encoder, arguments = encoder_of(foreign.tensors, deep=True)
    renamed, unused = rename(foreign.tensors, (*DEEP_STEM, *STAGES), {FC: "of ImageNet's classes"})
    model = {
        "ARCHITECTURE": "DISTDeepLabV3",
        "ENCODER": {"NAME": encoder, "DEPTH": 5, "OUTPUT_STRIDE": 8},
        "ARGS": dict(arguments),
    }
    whole = converted(renamed, unused, model | PIXELS["MODEL"], PIXELS["INPUT"], 19, CITYSCAPES)
    return replace(whole, partial=True, classes=0)  # which a backbone has none of


def recognizes(foreign: Foreign) -> bool:
    """Return whether the tensors have the authors' name of a backbone inside a network."""
    return f"{BACKBONE}layer1.0.conv1.weight" in foreign.tensors


def recognizes_backbone(foreign: Foreign) -> bool:
    """Return whether the tensors are of a ResNet by itself, with a deep stem."""
    return {"conv3.weight", "layer4.1.bn2.weight"} <= set(foreign.tensors)


BACKBONE_IMPORTER = Importer("cirkd_backbone", recognizes_backbone, convert_backbone)
IMPORTER = Importer("cirkd", recognizes, convert)
