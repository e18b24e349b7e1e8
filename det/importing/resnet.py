"""ResNet and ResNeXt: torchvision's names of their parts, which mmdetection took over, and what the shapes tell."""

import re
from collections.abc import Mapping
from typing import Any

from densedist.common.errors import UserError
from densedist.common.importing.form import Tensors
from densedist.common.importing.renaming import Rule
from densedist.common.importing.resnet import depth_of

OURS = "backbone.bottom_up."
NORM = "(weight|bias|running_mean|running_var)"

# Of batch norms, in any part of a detector.
UNUSED: Mapping[str, str] = {r".*\.num_batches_tracked": "it counts the batches of the training"}


def resnet_rules(prefix: str) -> list[Rule]:
    """Rules of densedist.common.importing.renaming for a ResNet whose names start with prefix."""
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


def resnet_config(tensors: Tensors, stride_in_1x1: bool) -> dict[str, Any]:
    """MODEL.RESNETS but for OUT_FEATURES.

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


def shape(tensors: Tensors, name: str) -> tuple[int, ...]:
    """The shape of a tensor by our name.

    Raises:
        UserError: there is none.
    """
    if name not in tensors:
        raise UserError(f"it has no tensor that would be {name}")
    return tuple(tensors[name].shape)


def numbers(tensors: Tensors, name: str) -> list[int]:
    """The numbers that stand for # in the names, e.g. of "backbone.bottom_up.res2.#.conv2.weight", in order."""
    pattern = re.compile(re.escape(name).replace(r"\#", r"(\d+)"))
    return sorted(int(match[1]) for other in tensors if (match := pattern.fullmatch(other)))
