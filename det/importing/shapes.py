"""The config that builds a detector with given tensors: what their shapes tell, and what its project has to say."""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.data import MetadataCatalog

from densedist.common.errors import UserError
from densedist.common.importing.importer import Tensors
from densedist.common.importing.renaming import Rule, depth_of

# Height over width of the anchors, in all of these projects by default.
RATIOS = [0.5, 1.0, 2.0]
OURS = "backbone.bottom_up."
NORM = "(weight|bias|running_mean|running_var)"
# Of batch norms, in any part of a detector.
UNUSED: Mapping[str, str] = {r".*\.num_batches_tracked": "it counts the batches of the training"}


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


def detector_config(
    tensors: Tensors, source: Source, architecture: str, levels: list[str], classes: int, model: Mapping[str, Any]
) -> dict[str, Any]:
    """Build what the configs of an R-CNN and of a RetinaNet have in common, with the other keys of MODEL.

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


def resnet_config(tensors: Tensors, stride_in_1x1: bool) -> dict[str, Any]:
    """Return MODEL.RESNETS but for OUT_FEATURES.

    Args:
        tensors: by our names.
        stride_in_1x1: which convolution of a bottleneck has the stride; no shape tells.

    Raises:
        UserError: a ResNet that Detectron2 cannot build.
    """
    blocks = [len(numbers(tensors, f"{OURS}res{stage}.#.conv2.weight")) for stage in range(2, 6)]
    bottleneck = f"{OURS}res2.0.conv3.weight" in tensors
    depth = depth_of(blocks, bottleneck)
    grouped = shape(tensors, f"{OURS}res2.0.conv2.weight")
    last = shape(tensors, f"{OURS}res2.0.conv{3 if bottleneck else 2}.weight")[0]
    if not bottleneck and last != 64:
        raise UserError(f"its backbone is a ResNet-{depth} with {last} channels in layer1: Detectron2 has 64 only")
    return {
        "DEPTH": depth,
        # A convolution in groups sees the channels of its group only.
        "NUM_GROUPS": grouped[0] // grouped[1],
        "WIDTH_PER_GROUP": grouped[1],
        "STEM_OUT_CHANNELS": shape(tensors, f"{OURS}stem.conv1.weight")[0],
        "RES2_OUT_CHANNELS": last,
        "STRIDE_IN_1X1": stride_in_1x1,
        "NORM": "FrozenBN",
    }


def resnet_rules(prefix: str) -> list[Rule]:
    """Return the rules (common/importing/renaming.py) for a ResNet whose names start with prefix."""
    theirs = re.escape(prefix)
    rules = [
        (rf"{theirs}conv1\.weight", f"{OURS}stem.conv1.weight"),
        (rf"{theirs}bn1\.{NORM}", rf"{OURS}stem.conv1.norm.\1"),
    ]
    for stage in range(1, 5):
        block, ours = rf"{theirs}layer{stage}\.(\d+)\.", rf"{OURS}res{stage + 1}.\1."
        rules += [
            (rf"{block}conv(\d)\.weight", rf"{ours}conv\2.weight"),
            (rf"{block}bn(\d)\.{NORM}", rf"{ours}conv\2.norm.\3"),
            (rf"{block}downsample\.0\.weight", f"{ours}shortcut.weight"),
            (rf"{block}downsample\.1\.{NORM}", rf"{ours}shortcut.norm.\2"),
        ]
    return rules


def check_statistics(tensors: Tensors) -> None:
    """Refuse a backbone whose norms are no batch norms.

    Args:
        tensors: by our names.

    Raises:
        UserError: norms without a running variance, for which Detectron2's FrozenBN would take one of 1.
    """
    weight = f"{OURS}stem.conv1.norm.weight"
    if weight in tensors and weight.replace("weight", "running_var") not in tensors:
        raise UserError(
            "norms of its backbone have no statistics, as group norms have none, and how many groups these have is not "
            "in the file; want a backbone with batch norms"
        )


def coco_names() -> list[str]:
    """Return the 80 classes of COCO by number, as its data sets have them here."""
    return list(MetadataCatalog.get("coco_2017_val").thing_classes)


def norm_of(tensors: Tensors, convolution: str) -> str:
    """Return the NORM of a convolution by our name: FrozenBN, as a teacher does not train its batch norm; or ""."""
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


def shape(tensors: Tensors, name: str) -> tuple[int, ...]:
    """Return the shape of a tensor by our name.

    Raises:
        UserError: there is none.
    """
    if name not in tensors:
        raise UserError(f"it has no tensor that would be {name}")
    return tuple(tensors[name].shape)


def numbers(tensors: Tensors, name: str) -> list[int]:
    """Return the numbers that stand for # in the names, e.g. of "backbone.bottom_up.res2.#.conv2.weight", in order."""
    pattern = re.compile(re.escape(name).replace(r"\#", r"(\d+)"))
    return sorted(int(match[1]) for other in tensors if (match := pattern.fullmatch(other)))
