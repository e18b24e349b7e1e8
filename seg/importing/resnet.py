"""What ResNet a checkpoint has, by the names and shapes of its tensors, and timm's name of it."""

import re
from collections.abc import Mapping
from typing import Any

from densedist.common.errors import UserError
from densedist.common.importing.form import Tensors
from densedist.common.importing.resnet import depth_of

FC = r"fc\..+"
DEEP_BY_NAME = (50, 101, 152)  # timm has them as resnet50s and so on


def encoder_of(tensors: Tensors, deep: bool) -> tuple[str, Mapping[str, Any]]:
    """MODEL.ENCODER.NAME, and what MODEL.ARGS has to say beside it.

    Args:
        tensors: of the ResNet, as "layer1.0.conv1.weight".
        deep: whether its stem has three convolutions.

    Raises:
        UserError: blocks that are those of no ResNet with a name, or not its width.
    """
    found = [re.match(r"layer(\d)\.(\d+)\.", name) for name in tensors]
    blocks = {(int(m[1]), int(m[2])) for m in found if m}
    counts = [sum(stage == wanted for stage, _ in blocks) for wanted in (1, 2, 3, 4)]
    depth = depth_of(counts, "layer1.0.conv3.weight" in tensors)
    width = tensors["layer1.0.conv1.weight"].shape[0]
    if width != 64:
        raise UserError(f"its ResNet-{depth} begins with {width} channels, not with 64: such a one has no name in timm")
    if not deep:
        return f"tu-resnet{depth}", {}
    if depth in DEEP_BY_NAME:
        return f"tu-resnet{depth}s", {}
    return f"tu-resnet{depth}", {"stem_type": "deep", "stem_width": 64}
