"""The config of an R-CNN on ResNet and FPN, from its tensors."""

from typing import Any

from densedist.common.errors import UserError
from densedist.common.importing.form import Tensors
from densedist.det.importing.resnet import numbers, shape
from densedist.det.importing.shapes import Source, detector_config, norm_of

BOX, PREDICTOR, MASK, RPN = (
    "roi_heads.box_head.",
    "roi_heads.box_predictor.",
    "roi_heads.mask_head.",
    "proposal_generator.rpn_head.",
)


def rcnn_config(tensors: Tensors, source: Source) -> dict[str, Any]:
    """Of a Faster, Mask, Cascade or Cascade Mask R-CNN on ResNet and FPN.

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
