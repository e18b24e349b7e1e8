"""The config of a RetinaNet on ResNet and FPN, from its tensors; the order of its anchors."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.errors import UserError
from densedist.common.importing.form import Tensors
from densedist.det.importing.resnet import numbers, shape
from densedist.det.importing.shapes import Source, detector_config

OUTPUTS = [f"head.{layer}.{part}" for layer in ("cls_score", "bbox_pred") for part in ("weight", "bias")]


def retinanet_config(
    tensors: Tensors, source: Source, backbone: str, sizes: Sequence[Sequence[float]], norm: str = ""
) -> dict[str, Any]:
    """Of a RetinaNet on ResNet and FPN.

    Args:
        tensors: by our names, output channels in Detectron2's order (see size_major).
        backbone: MODEL.BACKBONE.NAME.
        sizes: of the anchors at each of the five levels.
        norm: MODEL.RETINANET.NORM.

    Raises:
        UserError: one that Detectron2 cannot build.
    """
    anchors = len(sizes[0]) * len(source.ratios)
    if (sides := shape(tensors, "head.bbox_pred.weight")[0]) != 4 * anchors:
        raise UserError(f"its head has {sides // 4} anchors at each place: want {anchors}")
    classes = shape(tensors, "head.cls_score.weight")[0] // anchors
    layers = numbers(tensors, "head.cls_subnet.#.weight")
    model = {
        "BACKBONE": {"NAME": backbone},
        "ANCHOR_GENERATOR": {"SIZES": sizes, "ASPECT_RATIOS": [list(source.ratios)]},
        "RETINANET": {
            "NUM_CLASSES": classes,
            "NUM_CONVS": sum(tensors[f"head.cls_subnet.{n}.weight"].dim() == 4 for n in layers),  # others are norms
            "NORM": norm,
            "SCORE_THRESH_TEST": 0.05,
            "TOPK_CANDIDATES_TEST": 1000,
            "NMS_THRESH_TEST": 0.5,
        },
    }
    return detector_config(tensors, source, "RetinaNet", ["res3", "res4", "res5"], classes, model)


def check_anchors(cfg: CfgNode) -> None:
    """Refuse anchors that come in another order than size_major has put the tensors in.

    Raises:
        UserError: other than 3 sizes and 3 ratios at a place.
    """
    generator = cfg.MODEL.ANCHOR_GENERATOR
    if any(len(level) != 3 for level in (*generator.SIZES, *generator.ASPECT_RATIOS)):
        raise UserError(
            "a RetinaNet is converted with the anchors of a place in the order of 3 sizes and 3 ratios, so others "
            "cannot be given: want MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS of 3 each"
        )


def size_major(tensors: Tensors) -> dict[str, Tensor]:
    """The tensors with the output channels of the head in Detectron2's order.

    Both torchvision and mmdetection number the anchors of a place by ratio and then by size, Detectron2 by size and
    then by ratio; each anchor has its channels (classes, or four sides of a box) next to one another.

    Args:
        tensors: by our names, with 3 ratios and 3 sizes.

    Raises:
        UserError: output channels that are no multiple of the 9 anchors.
    """
    changed = dict(tensors)
    for name in OUTPUTS:
        channels = shape(tensors, name)[0]
        if channels % 9:
            raise UserError(f"its head has {channels} channels, no multiple of the 9 anchors of a place")
        changed[name] = tensors[name].unflatten(0, (3, 3, -1)).transpose(0, 1).flatten(0, 2).contiguous()
    return changed
