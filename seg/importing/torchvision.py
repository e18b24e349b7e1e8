"""Segmentation checkpoints of torchvision: deeplabv3_resnet50 and deeplabv3_resnet101."""

from collections.abc import Mapping

from densedist.common.errors import UserError
from densedist.common.importing.importer import Converted, Foreign, Importer
from densedist.common.importing.renaming import Rule, rename
from densedist.seg.importing.common import FC, VOC, converted, encoder_of

RULES: tuple[Rule, ...] = (
    (r"backbone\.(.+)", r"encoder.model.\1"),
    (r"classifier\.0\.(.+)", r"decoder.aspp.\1"),
    (r"classifier\.1\.(.+)", r"decoder.conv.\1"),
    (r"classifier\.2\.(.+)", r"decoder.bn.\1"),
    (r"classifier\.4\.(.+)", r"segmentation_head.0.\1"),
    (r"aux_classifier\.(.+)", r"aux_head.\1"),
)
BACKBONE = "backbone."


def convert(foreign: Foreign, options: Mapping[str, str]) -> Converted:
    """Convert a DeepLabV3; torchvision's images are SMP's by default: RGB with ImageNet's mean and deviation.

    Raises:
        UserError: another head (an FCN, LR-ASPP), or another backbone than a ResNet.
    """
    tensors = foreign.tensors
    if "classifier.0.convs.0.0.weight" not in tensors:
        raise UserError("its head is not of DeepLabV3: of torchvision's, deeplabv3_resnet50 and 101 can be imported")
    inner = {name.removeprefix(BACKBONE): t for name, t in tensors.items() if name.startswith(BACKBONE)}
    if "layer1.0.conv1.weight" not in inner:
        raise UserError("its backbone is no ResNet: of torchvision's, deeplabv3_resnet50 and 101 can be imported")
    encoder, arguments = encoder_of(inner, deep=False)
    renamed, unused = rename(tensors, RULES, {rf"backbone\.{FC}": "of ImageNet's classes"})
    model = {
        "ARCHITECTURE": "DeepLabV3",
        "ENCODER": {"NAME": encoder, "DEPTH": 5, "OUTPUT_STRIDE": 8},
        "ARGS": {**arguments, "decoder_channels": tensors["classifier.1.weight"].shape[0]},
    }
    return converted(renamed, unused, model, {}, tensors["classifier.4.weight"].shape[0], VOC)


def recognizes(foreign: Foreign) -> bool:
    """Return whether the tensors have torchvision's names of a backbone and a classifier."""
    return {"backbone.conv1.weight", "classifier.4.weight"} <= set(foreign.tensors)


IMPORTER = Importer("torchvision", recognizes, convert)
