"""What all importers of segmentation models end with: a config, and the auxiliary head beside the model."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from densedist.common.errors import UserError
from densedist.common.importing.importer import Converted, Tensors
from densedist.common.importing.renaming import depth_of

# By the number of classes, the packaged config that names them, of the data that such checkpoints are trained on.
CITYSCAPES = {19: "seg/data/cityscapes.yaml"}
VOC = {21: "seg/data/voc.yaml"}
AUX = "aux_head."
FC = r"fc\..+"
DEEP_BY_NAME = (50, 101, 152)  # timm has them as resnet50s and so on


def converted(
    tensors: Mapping[str, Tensor],
    unused: Mapping[str, str],
    model: Mapping[str, Any],
    image: Mapping[str, Any],
    classes: int,
    data: Mapping[int, str],
) -> Converted:
    """Join a network's tensors with what belongs to its config.

    Args:
        tensors: by our names; those of the auxiliary head, if there is one, begin with AUX.
        model, image: the nodes MODEL and INPUT.
        classes: how many the network tells.
        data: by their number, a packaged config that names them.
    """
    aux = {name.removeprefix(AUX): tensor for name, tensor in tensors.items() if name.startswith(AUX)}
    main = {name: tensor for name, tensor in tensors.items() if not name.startswith(AUX)}
    return Converted(
        config={"TASK": "seg", "MODEL": {**model, "AUX_HEAD": {"ENABLED": bool(aux)}}, "INPUT": dict(image)},
        tensors=main,
        unused=unused,
        beside={"aux_head": aux} if aux else {},
        classes=classes,
        base=data.get(classes, ""),
    )


def encoder_of(tensors: Tensors, deep: bool) -> tuple[str, Mapping[str, Any]]:
    """Return MODEL.ENCODER.NAME, and what MODEL.ARGS has to have for it.

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
        raise UserError(f"its ResNet-{depth} begins with {width} channels, not with 64: timm has no such network")
    if not deep:
        return f"tu-resnet{depth}", {}
    if depth in DEEP_BY_NAME:
        return f"tu-resnet{depth}s", {}
    return f"tu-resnet{depth}", {"stem_type": "deep", "stem_width": 64}
