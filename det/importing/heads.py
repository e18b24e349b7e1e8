"""The config of an R-CNN or a RetinaNet on ResNet and FPN, from its tensors."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.errors import UserError
from densedist.common.importing.importer import Tensors
from densedist.det.importing.shapes import Source, detector_config, norm_of, numbers, shape

BOX, PREDICTOR, MASK, RPN = (
    "roi_heads.box_head.",
    "roi_heads.box_predictor.",
    "roi_heads.mask_head.",
    "proposal_generator.rpn_head.",
)
OUTPUTS = [f"head.{layer}.{part}" for layer in ("cls_score", "bbox_pred") for part in ("weight", "bias")]


def rcnn_config(tensors: Tensors, source: Source) -> dict[str, Any]:
    """Build the config of a Faster, Mask, Cascade or Cascade Mask R-CNN on ResNet and FPN.

    Args:
        tensors: by our names.

    Raises:
        UserError: one that Detectron2 cannot build.
    """
    levels = ["res2", "res3", "res4", "res5"]
    if (anchors := shape(tensors, f"{RPN}objectness_logits.weight")[0]) != len(source.ratios):
        raise UserError(
            f"its RPN has {anchors} anchors at each place: want {len(source.ratios)}, of one size and the ratios "
            f"{', '.join(map(str, source.ratios))}"
        )
    kind, sampling = source.pooler
    pooler = {"POOLER_TYPE": kind, "POOLER_SAMPLING_RATIO": sampling}
    stages = len(numbers(tensors, f"{PREDICTOR}#.cls_score.weight"))
    stage = "0." if stages else ""
    classes = shape(tensors, f"{PREDICTOR}{stage}cls_score.weight")[0] - 1  # and the background
    heads = {"NAME": "CascadeROIHeads" if stages else "StandardROIHeads", "NUM_CLASSES": classes}
    model: dict[str, Any] = {
        "BACKBONE": {"NAME": "build_resnet_fpn_backbone"},
        "ANCHOR_GENERATOR": {"SIZES": [[32], [64], [128], [256], [512]], "ASPECT_RATIOS": [list(source.ratios)]},
        "RPN": {
            "IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
            "CONV_DIMS": [-1] * max(1, len(numbers(tensors, f"{RPN}conv.conv#.weight"))),
            "PRE_NMS_TOPK_TRAIN": 2000,
            "PRE_NMS_TOPK_TEST": 1000,
            "POST_NMS_TOPK_TRAIN": 1000,
            "POST_NMS_TOPK_TEST": 1000,
        },
        "ROI_HEADS": heads | {"IN_FEATURES": ["p2", "p3", "p4", "p5"], "SCORE_THRESH_TEST": 0.05},
        "ROI_BOX_HEAD": _box_head(tensors, stage) | {"POOLER_RESOLUTION": 7} | pooler,
        "MASK_ON": f"{MASK}predictor.weight" in tensors,
    }
    if stages:
        if stages != len(source.cascade_weights) or not model["ROI_BOX_HEAD"]["CLS_AGNOSTIC_BBOX_REG"]:
            raise UserError(
                f"its cascade has {stages} stages: Detectron2 can build it where these are "
                f"{len(source.cascade_weights) or 'none'} and all classes share their boxes"
            )
        model["ROI_BOX_CASCADE_HEAD"] = {"BBOX_REG_WEIGHTS": source.cascade_weights}
    if model["MASK_ON"]:
        model["ROI_MASK_HEAD"] = _mask_head(tensors, classes) | {"POOLER_RESOLUTION": 14} | pooler
    return detector_config(tensors, source, "GeneralizedRCNN", levels, classes, model)


def retinanet_config(
    tensors: Tensors, source: Source, backbone: str, sizes: Sequence[Sequence[float]], norm: str = ""
) -> dict[str, Any]:
    """Build the config of a RetinaNet on ResNet and FPN.

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


def size_major(tensors: Tensors) -> dict[str, Tensor]:
    """Return the tensors with the output channels of the head in Detectron2's order.

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


def _box_head(tensors: Tensors, stage: str) -> dict[str, Any]:
    head = f"{BOX}{stage}"
    convs, linear = numbers(tensors, f"{head}conv#.weight"), numbers(tensors, f"{head}fc#.weight")
    found: dict[str, Any] = {"NAME": "FastRCNNConvFCHead", "NUM_FC": len(linear)}
    found["FC_DIM"] = shape(tensors, f"{head}fc1.weight")[0]
    if convs:
        found |= {"NUM_CONV": len(convs), "CONV_DIM": shape(tensors, f"{head}conv1.weight")[0]}
        found["NORM"] = norm_of(tensors, f"{head}conv1")
    found["CLS_AGNOSTIC_BBOX_REG"] = shape(tensors, f"{PREDICTOR}{stage}bbox_pred.weight")[0] == 4
    return found


def _mask_head(tensors: Tensors, classes: int) -> dict[str, Any]:
    convs = numbers(tensors, f"{MASK}mask_fcn#.weight")
    masks = shape(tensors, f"{MASK}predictor.weight")[0]
    return {
        "NAME": "MaskRCNNConvUpsampleHead",
        "NUM_CONV": len(convs),
        "CONV_DIM": shape(tensors, f"{MASK}deconv.weight")[1],
        "NORM": norm_of(tensors, f"{MASK}mask_fcn1"),
        "CLS_AGNOSTIC_MASK": masks == 1 and classes > 1,
    }
