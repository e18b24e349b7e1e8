"""mmdetection's detectors, written anew from the published architectures, with a config as its files have them."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from helpers.imported import as_if_trained
from helpers.mmdetection import STDS, Detector
from referee.det_authors.handing import BOXES, PRECISIONS, Form, Handed, Truth, rounded, save

CHOICES: Mapping[str, tuple[str, ...]] = {
    "network": ("faster", "retinanet", "mask", "cascade", "cascade_mask"),
    "style": ("pytorch", "caffe", "pytorch-bgr"),
    "blocks": ("50", "101", "18"),
    "groups": ("1", "4"),
    "classes": ("3", "80", "1"),
    "says": ("its config", "nothing", "cfg of version 3"),
    "precision": PRECISIONS,
    "anchors": ("usual", "scales", "ratios", "base sizes", "octaves", "two scales"),
    "stds": ("usual", "others"),
    "thresholds": ("usual", "others"),
    "prefix": ("nothing", "DataParallel"),
}
MAY = {("anchors", "two scales"), ("anchors", "octaves")}
USUAL = {"score_thr": 0.05, "iou_threshold": 0.5, "max_per_img": 100}
BLOCKS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "18": (2, 2, 2, 2)}


def write(folder: Path, seed: int, choices: Mapping[str, str]) -> Handed:
    torch.manual_seed(seed)
    basic = choices["blocks"] == "18"
    size = {"base": 64 if basic else 8, "width": 0 if basic else 8, "groups": 1 if basic else int(choices["groups"])}
    model = Detector(
        choices["network"], choices["style"], int(choices["classes"]), BLOCKS[choices["blocks"]], channels=32, **size
    )
    model = rounded(as_if_trained(model, seed), choices["precision"])
    anchors, stds = _anchors(choices), _stds(choices)
    more = {}
    if choices["says"] != "nothing":
        names = tuple(f"class {n}" for n in range(int(choices["classes"])))
        key = "cfg" if choices["says"] == "cfg of version 3" else "config"
        about = {"dataset_meta": {"classes": names}} if key == "cfg" else {"CLASSES": names}
        more = {"meta": {key: _text(choices, anchors, stds), "mmdet_version": "2.25.0", "epoch": 12, **about}}
    file = save(model, folder, choices["precision"], choices["prefix"], **more)
    said = dict(_said(choices, anchors, stds)) if choices["says"] == "nothing" else {}
    words = [word for key, value in said.items() for word in (key, str(value))]
    keys = dict(_thresholds(choices, USUAL | _numbers(choices)))
    truth = Truth(partial(_parts, model, stds), _sides(anchors), None, int(choices["classes"]), keys)
    return Handed(file, truth, "", {"style": choices["style"]}, words)


def _anchors(choices: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of mmdetection's AnchorGenerator."""
    dense = choices["network"] == "retinanet"
    given: dict[str, Any] = {"strides": [8, 16, 32, 64, 128] if dense else [4, 8, 16, 32, 64]}
    given["ratios"] = [0.25, 1.0, 4.0] if choices["anchors"] == "ratios" else [0.5, 1.0, 2.0]
    if choices["anchors"] == "base sizes":
        given["base_sizes"] = [6, 12, 24, 50, 100]
    if dense:
        given |= {"octave_base_scale": 4, "scales_per_octave": 3}
        if choices["anchors"] == "scales":
            given["octave_base_scale"] = 2
        if choices["anchors"] == "octaves":
            given["scales_per_octave"] = 2
        if choices["anchors"] == "two scales":
            del given["octave_base_scale"], given["scales_per_octave"]
            given["scales"] = [4, 6]
    else:
        given["scales"] = {"scales": [4], "two scales": [4, 8], "octaves": [8.0]}.get(choices["anchors"], [8])
    return given


def _sides(given: Mapping[str, Any]) -> list[Tensor]:
    """Width and height as mmdetection computes them: by ratio, and then by scale."""
    count = given.get("scales_per_octave", 0)
    scales = given.get("scales") or [given["octave_base_scale"] * 2 ** (n / count) for n in range(count)]
    return [
        torch.tensor([(base * s / r**0.5, base * s * r**0.5) for r in given["ratios"] for s in scales])
        for base in given.get("base_sizes", given["strides"])
    ]


def _stds(choices: Mapping[str, str]) -> list[Sequence[float]]:
    """Of each stage's boxes."""
    stages = 3 if choices["network"].startswith("cascade") else 1
    return [[x * 2 for x in std] for std in STDS[:stages]] if choices["stds"] == "others" else list(STDS[:stages])


def _numbers(choices: Mapping[str, str]) -> dict[str, float]:
    if choices["thresholds"] == "usual":
        return {}
    return {"score_thr": 0.2, "iou_threshold": 0.45, "max_per_img": 33}


def _text(choices: Mapping[str, str], anchors: Mapping[str, Any], stds: Sequence[Sequence[float]]) -> str:
    """Its config as a program in words."""
    style = "caffe" if choices["style"] == "caffe" else "pytorch"
    generator = ", ".join(f"{key}={value!r}" for key, value in anchors.items())
    generator = f"anchor_generator=dict(type='AnchorGenerator', {generator})"
    coders = [f"bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds={list(std)!r})" for std in stds]
    test = ""
    if numbers := _numbers(choices):
        nms = f"nms=dict(type='nms', iou_threshold={numbers['iou_threshold']})"
        test = f"score_thr={numbers['score_thr']}, {nms}, max_per_img={numbers['max_per_img']}"
    if choices["network"] == "retinanet":
        rest = f"    bbox_head=dict({generator}),\n    test_cfg=dict({test})"
    else:
        heads = [f"dict({coder})" for coder in coders]
        head = f"[{', '.join(heads)}]" if len(heads) > 1 else heads[0]
        rest = f"    rpn_head=dict({generator}),\n    roi_head=dict(bbox_head={head}),\n"
        rest += f"    test_cfg=dict(rcnn=dict({test}))"
    return f"model = dict(\n    backbone=dict(type='ResNet', style={style!r}),\n{rest})\n"


def _said(
    choices: Mapping[str, str], anchors: Mapping[str, Any], stds: Sequence[Sequence[float]]
) -> list[tuple[str, Any]]:
    """By the keys of Detectron2 what the author's page says where the file has no config."""
    dense, said = choices["network"] == "retinanet", []
    if choices["anchors"] != "usual":
        sizes = [[float(x) for x in (level[:, 0] * level[:, 1]).sqrt().unique()] for level in _sides(anchors)]
        said.append(("MODEL.ANCHOR_GENERATOR.SIZES", [sorted({round(x, 3) for x in level}) for level in sizes]))
        said.append(("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [anchors["ratios"]]))
    if choices["stds"] != "usual" and not dense:
        weights = [[1 / x for x in std] for std in stds]
        cascade = len(weights) > 1
        key = "MODEL.ROI_BOX_CASCADE_HEAD" if cascade else "MODEL.ROI_BOX_HEAD"
        said.append((f"{key}.BBOX_REG_WEIGHTS", weights if cascade else weights[0]))
    if numbers := _numbers(choices):
        said += _thresholds(choices, numbers)
    return said


def _thresholds(choices: Mapping[str, str], numbers: Mapping[str, float]) -> list[tuple[str, float]]:
    node = "MODEL.RETINANET" if choices["network"] == "retinanet" else "MODEL.ROI_HEADS"
    keys = f"{node}.SCORE_THRESH_TEST", f"{node}.NMS_THRESH_TEST", "TEST.DETECTIONS_PER_IMAGE"
    return [(key, numbers[name]) for key, name in zip(keys, USUAL, strict=True)]


@torch.no_grad()
def _parts(model: Detector, stds: Sequence[Sequence[float]], rgb: Tensor) -> dict[str, list[Tensor]]:
    if model.kind == "retinanet":
        return model.dense(rgb)
    found = model.regions(rgb, BOXES)
    coders = [BoxCoder(tuple(1 / x for x in std)) for std in stds]
    found["boxes"] = [c.decode(d, [BOXES]).flatten(1) for c, d in zip(coders, found["deltas"], strict=True)]
    return found


FORM = Form("mmdetection", write, CHOICES, frozenset(MAY))
