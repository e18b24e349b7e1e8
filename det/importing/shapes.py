"""The config that builds a detector with given tensors: what their shapes tell, and what its project has to say."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.data import MetadataCatalog

from densedist.common.importing.form import Tensors
from densedist.det.importing.resnet import resnet_config, shape

# Height over width of the anchors, in all of these projects by default.
RATIOS = [0.5, 1.0, 2.0]


@dataclass(frozen=True)
class Source:
    """What the tensors do not tell.

    Args:
        format: of the images, "RGB" or "BGR".
        mean, std: of their pixels, 0 to 255, in that order.
        stride_in_1x1: which convolution of a bottleneck has the stride.
        pooler: MODEL.ROI_BOX_HEAD.POOLER_TYPE and POOLER_SAMPLING_RATIO; the same for masks.
        names: of so many classes; empty = not known.
        detections: of an image, at most.
        cascade_weights: MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS.
        ratios: height over width of the anchors.
    """

    format: str
    mean: Sequence[float]
    std: Sequence[float]
    stride_in_1x1: bool = False
    pooler: tuple[str, int] = ("ROIAlignV2", 0)
    names: Callable[[int], Sequence[str]] = lambda _: ()
    detections: int = 100
    cascade_weights: Sequence[Sequence[float]] = field(default_factory=tuple)
    ratios: Sequence[float] = tuple(RATIOS)


def coco_names() -> list[str]:
    """The 80 classes of COCO by number, as its data sets have them here."""
    return list(MetadataCatalog.get("coco_2017_val").thing_classes)


def detector_config(
    tensors: Tensors, source: Source, architecture: str, levels: list[str], classes: int, model: Mapping[str, Any]
) -> dict[str, Any]:
    """What an R-CNN and a RetinaNet on ResNet and FPN have in common, with the rest of MODEL.

    Args:
        tensors: by our names.
        architecture: MODEL.META_ARCHITECTURE.
        levels: the maps of the ResNet that FPN takes.
        classes: how many, without a background.
        model: the other keys of MODEL.

    Raises:
        UserError: one that Detectron2 cannot build.
    """
    fpn = {
        "IN_FEATURES": levels,
        "OUT_CHANNELS": shape(tensors, "backbone.fpn_output5.weight")[0],
        "NORM": norm_of(tensors, "backbone.fpn_output5"),
    }
    config: dict[str, Any] = {
        "MODEL": {
            "META_ARCHITECTURE": architecture,
            "PIXEL_MEAN": source.mean,
            "PIXEL_STD": source.std,
            "RESNETS": resnet_config(tensors, source.stride_in_1x1) | {"OUT_FEATURES": levels},
            "FPN": fpn,
            **model,
        },
        "INPUT": {"FORMAT": source.format},
        "TEST": {"DETECTIONS_PER_IMAGE": source.detections},
        "VERSION": 2,
    }
    if names := source.names(classes):
        config["DATASETS"] = {"CLASSES": names}
    return config


def norm_of(tensors: Tensors, convolution: str) -> str:
    """The NORM of a convolution by our name: FrozenBN for a batch norm, which a teacher does not train; or none."""
    return "FrozenBN" if f"{convolution}.norm.running_var" in tensors else ""


def with_keys(config: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested config with dotted keys in it."""
    changed = copy.deepcopy(dict(config))
    for key, value in keys.items():
        *parents, last = key.split(".")
        node = changed
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return changed
