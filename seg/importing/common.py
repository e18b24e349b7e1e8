"""What all importers of segmentation models end with: a config, and the auxiliary head beside the model."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from densedist.common.importing.form import Converted

# By the number of classes, the packaged config that names them, of the data that such checkpoints are trained on.
CITYSCAPES = {19: "seg/data/cityscapes.yaml"}
VOC = {21: "seg/data/voc.yaml"}
AUX = "aux_head."


def converted(
    tensors: Mapping[str, Tensor],
    unused: Mapping[str, str],
    model: Mapping[str, Any],
    image: Mapping[str, Any],
    classes: int,
    data: Mapping[int, str],
) -> Converted:
    """A network with what belongs to its config.

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
