"""The numbers of a detector in its own config of mmdetection: taken over, or refused where Detectron2 has no such.

The config is a program in words. It is parsed as one and never run: what is no plain value is not known.
"""

import ast
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from densedist.common.errors import UserError
from densedist.det.importing.shapes import RATIOS

logger = logging.getLogger(__name__)
UNKNOWN = object()
# What a part of the config may say where it says anything, by its place under "model".
ALIKE: Mapping[str, Any] = {
    "backbone.dilations": [1, 1, 1, 1],
    "backbone.strides": [1, 2, 2, 2],
    "neck.type": "FPN",
    "neck.upsample_cfg.mode": "nearest",
}
CODER: Mapping[str, Any] = {"type": "DeltaXYWHBBoxCoder", "target_means": [0, 0, 0, 0]}
ANCHORS: Mapping[str, Any] = {"type": "AnchorGenerator", "center_offset": 0, "scale_major": True, "centers": None}
EXTRACTOR: Mapping[str, Any] = {
    "type": "SingleRoIExtractor",
    "featmap_strides": [4, 8, 16, 32],
    "finest_scale": 56,
    "roi_layer.type": "RoIAlign",
    "roi_layer.pool_mode": "avg",
}
# Keys of Detectron2 for what it may say otherwise.
RCNN_TEST = {
    "test_cfg.rpn.nms_pre": "MODEL.RPN.PRE_NMS_TOPK_TEST",
    "test_cfg.rpn.max_per_img": "MODEL.RPN.POST_NMS_TOPK_TEST",
    "test_cfg.rpn.nms.iou_threshold": "MODEL.RPN.NMS_THRESH",
    "test_cfg.rpn.min_bbox_size": "MODEL.PROPOSAL_GENERATOR.MIN_SIZE",
    "test_cfg.rcnn.score_thr": "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "test_cfg.rcnn.nms.iou_threshold": "MODEL.ROI_HEADS.NMS_THRESH_TEST",
    "test_cfg.rcnn.max_per_img": "TEST.DETECTIONS_PER_IMAGE",
}
RETINANET_TEST = {
    "test_cfg.nms_pre": "MODEL.RETINANET.TOPK_CANDIDATES_TEST",
    "test_cfg.score_thr": "MODEL.RETINANET.SCORE_THRESH_TEST",
    "test_cfg.nms.iou_threshold": "MODEL.RETINANET.NMS_THRESH_TEST",
    "test_cfg.max_per_img": "TEST.DETECTIONS_PER_IMAGE",
}


@dataclass(frozen=True)
class Numbers:
    """What a config says.

    Args:
        keys: of Detectron2's config, dotted, with their values.
        cascade_weights: one over the deviations of each stage's boxes; None = it does not say.
    """

    keys: Mapping[str, Any]
    cascade_weights: Sequence[Sequence[float]] | None = None


def rcnn_numbers(model: Mapping[str, Any], masks: bool) -> Numbers:
    """Return the numbers of a Faster, Mask or Cascade R-CNN.

    Args:
        model: of read_model.
        masks: whether it has a mask head.

    Raises:
        UserError: one that Detectron2 cannot have.
    """
    _check(model, "", ALIKE)
    keys = _anchors(model, "rpn_head", [4, 8, 16, 32, 64], [8])
    keys |= _weights(model, "rpn_head.bbox_coder", "MODEL.RPN.BBOX_REG_WEIGHTS")
    heads = _at(model, "roi_head.bbox_head")
    stages = heads if isinstance(heads, list) else [heads]
    each: list[Any] = [{"roi_head": {"bbox_head": head}} for head in stages]
    weights = [_weights(one, "roi_head.bbox_head.bbox_coder", "").get("") for one in each]
    said = [one for one in weights if one]
    cascade = said if isinstance(heads, list) and said and len(said) == len(stages) else None
    if cascade is None and said:
        keys["MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS"] = said[0]
    heads_of = {"bbox": "MODEL.ROI_BOX_HEAD"} | ({"mask": "MODEL.ROI_MASK_HEAD"} if masks else {})
    for name, node in heads_of.items():
        keys |= _pooler(model, f"roi_head.{name}_roi_extractor", node)
    return Numbers(keys | _said(model, RCNN_TEST), cascade)


def retinanet_numbers(model: Mapping[str, Any]) -> Numbers:
    """Return the numbers of a RetinaNet.

    Raises:
        UserError: one that Detectron2 cannot have.
    """
    _check(model, "", ALIKE)
    keys = _anchors(model, "bbox_head", [8, 16, 32, 64, 128], [4 * 2 ** (step / 3) for step in range(3)])
    for name, values in (("sizes", "SIZES"), ("ratios", "ASPECT_RATIOS")):
        if len(keys.get(f"MODEL.ANCHOR_GENERATOR.{values}", [[0] * 3])[0]) != 3:
            raise UserError(f"its config says other {name} of anchors than 3 at each place, which are not converted")
    keys |= _weights(model, "bbox_head.bbox_coder", "MODEL.RETINANET.BBOX_REG_WEIGHTS")
    if _at(model, "neck.relu_before_extra_convs") is True:
        keys["MODEL.BACKBONE.NAME"] = "build_retinanet_resnet_fpn_backbone"
    return Numbers(keys | _said(model, RETINANET_TEST))


def read_model(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return "model" of the config in a checkpoint's meta as plain values; empty where there is none.

    What is no plain value is UNKNOWN.
    """
    text = next((meta[key] for key in ("config", "cfg") if isinstance(meta.get(key), str)), "")
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        logger.warning("its config cannot be read: anchors and thresholds are taken to be mmdetection's defaults")
        return {}
    found: Any = {}
    for line in body:
        if isinstance(line, ast.Assign) and [getattr(target, "id", "") for target in line.targets] == ["model"]:
            found = _plain(line.value)
    return found if isinstance(found, Mapping) else {}


def _plain(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict" and not node.args:
        return {word.arg: _plain(word.value) for word in node.keywords if word.arg}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {key.value: _plain(value) for key, value in pairs if isinstance(key, ast.Constant)}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_plain(value) for value in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return UNKNOWN


def _anchors(model: Mapping[str, Any], head: str, strides: list[int], scales: list[float]) -> dict[str, Any]:
    """Return the keys of a head's anchors; a config that says nothing of them has these strides and scales."""
    place = f"{head}.anchor_generator"
    _check(model, place, {**ANCHORS, "strides": strides})
    given = _at(model, place)
    if not isinstance(given, Mapping):
        return {}
    _numbers(given, place, "scales", "ratios", "base_sizes", "octave_base_scale", "scales_per_octave")
    if (base := given.get("octave_base_scale")) is not None:
        count = given.get("scales_per_octave") or 1
        scales = [base * 2 ** (step / count) for step in range(count)]
    scales, ratios = given.get("scales") or scales, given.get("ratios") or RATIOS
    bases = given.get("base_sizes") or strides
    if not len(bases) == len(strides):
        raise UserError(f"its config says {place}.base_sizes={bases}: want {len(strides)}, one for each map")
    sizes = [[round(size * scale, 3) for scale in scales] for size in bases]
    return {"MODEL.ANCHOR_GENERATOR.SIZES": sizes, "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [list(ratios)]}


def _weights(model: Mapping[str, Any], place: str, key: str) -> dict[str, list[float]]:
    """Return by its key one over the deviations of a box coder."""
    _check(model, place, CODER)
    coder = _at(model, place)
    if not isinstance(coder, Mapping) or coder.get("target_stds") is None:
        return {}
    _numbers(coder, place, "target_stds")
    return {key: [1 / value for value in coder["target_stds"]]}


def _pooler(model: Mapping[str, Any], place: str, node: str) -> dict[str, Any]:
    _check(model, place, EXTRACTOR)
    layer = _at(model, f"{place}.roi_layer")
    if not isinstance(layer, Mapping):
        return {}
    keys: dict[str, Any] = {f"{node}.POOLER_TYPE": "ROIAlign" if layer.get("aligned") is False else "ROIAlignV2"}
    for name, ours in (("output_size", "POOLER_RESOLUTION"), ("sampling_ratio", "POOLER_SAMPLING_RATIO")):
        if isinstance(layer.get(name), int):
            keys[f"{node}.{ours}"] = layer[name]
    return keys


def _said(model: Mapping[str, Any], table: Mapping[str, str]) -> dict[str, Any]:
    found = {key: _at(model, place) for place, key in table.items()}
    return {key: value for key, value in found.items() if isinstance(value, (int, float))}


def _numbers(node: Mapping[str, Any], place: str, *names: str) -> None:
    """Refuse what is there and is no number above 0, or list of such."""
    for name in names:
        values = node.get(name)
        each = values if isinstance(values, list) else [] if values is None else [values]
        if not all(isinstance(value, (int, float)) and value > 0 for value in each):
            raise UserError(f"its config says something of {place}.{name} that is no number above 0")


def _check(model: Mapping[str, Any], place: str, alike: Mapping[str, Any]) -> None:
    for name, wanted in alike.items():
        full = f"{place}.{name}".removeprefix(".")
        for given in _all_at(model, full):
            if given is not None and given != wanted:
                shown = "another value" if given is UNKNOWN else repr(given)
                raise UserError(f"its config says {full}={shown}, which is not converted: want {wanted!r}")


def _at(node: Any, place: str) -> Any:
    """Return what is at a dotted place; None = nothing."""
    for part in place.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _all_at(node: Any, place: str) -> Iterator[Any]:
    """Do the same in each member of a list on the way, as a cascade has them."""
    first, _, rest = place.partition(".")
    below = node.get(first) if isinstance(node, Mapping) else None
    if not rest:
        yield below
        return
    for member in below if isinstance(below, list) else [below]:
        yield from _all_at(member, rest)
