"""Detectors of stock Detectron2: a config of its own keys, and weights as its checkpointer writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from torch import Tensor, nn

from helpers.imported import as_if_trained, maps, regions
from referee.det_authors.handing import BOXES, PRECISIONS, Form, Found, Handed, Truth, opinionated, rounded, tame

CHOICES: Mapping[str, tuple[str, ...]] = {
    "network": ("Faster R-CNN", "RetinaNet", "Mask R-CNN", "Cascade R-CNN", "C4"),
    "pixels": ("Caffe's", "ImageNet's", "others"),
    "format": ("BGR", "RGB"),
    "classes": ("10", "3", "1"),
    "depth": ("50", "18", "101"),
    "norm": ("FrozenBN", "BN", "GN", "SyncBN"),
    "pyramid": ("plain", "GN", "averaged"),
    "stride": ("in the 1x1", "in the 3x3"),
    "anchors": ("usual", "others", "of each map", "with an offset"),
    "thresholds": ("usual", "others"),
    "box weights": ("usual", "others"),
    "pooler": ("usual", "ROIAlign", "ROIPool"),
    "agnostic": ("no", "yes"),
    "sides": ("128", "96, at most 110", "as they are"),
    "wrapped": ("as a trainer saves it", "model", "nothing"),
    "precision": PRECISIONS,
    "config": ("whole", "what is not usual", "with a base", "with places of another machine"),
    "beside": ("nothing", "more tensors"),
}


def write(folder: Path, seed: int, choices: Mapping[str, str]) -> Handed:
    cfg = _config(choices)
    torch.manual_seed(seed)
    model = as_if_trained(build_model(cfg), seed)
    dense = choices["network"] == "RetinaNet"
    if dense:
        tame(model.head.bbox_pred)
    else:
        tame(model.proposal_generator.rpn_head.anchor_deltas)
        predictors = model.roi_heads.box_predictor
        for predictor in predictors if isinstance(predictors, nn.ModuleList) else [predictors]:
            tame(predictor.bbox_pred)
            opinionated(predictor.cls_score, -1)
    model = rounded(model, choices["precision"])
    _save(model, folder / "model_final.pth", choices)
    _save_config(cfg, folder, choices)
    cfg.MODEL.WEIGHTS = str(folder / "model_final.pth")
    predictor = DefaultPredictor(cfg)

    def parts(rgb: Tensor) -> Mapping[str, Any]:
        return parts_of(predictor.model, cfg, rgb)

    def whole(rgb: Tensor) -> Found:
        found = predictor(rgb.flip(0).permute(1, 2, 0).numpy().copy())["instances"]  # it takes BGR
        return Found(found.pred_boxes.tensor, found.scores, found.pred_classes)

    exact = predictor.model  # whose anchors no precision has rounded
    generator = exact.anchor_generator if dense else exact.proposal_generator.anchor_generator
    anchors = [x[:, 2:] - x[:, :2] for x in generator.cell_anchors]
    return Handed(folder / "model_final.pth", Truth(parts, anchors, whole, int(choices["classes"])), "config.yaml")


@torch.no_grad()
def parts_of(model: Any, cfg: CfgNode, rgb: Tensor) -> Mapping[str, Any]:
    """What a detector of Detectron2 says, by its parts; anchors are in its own order."""
    if hasattr(model, "head"):
        features = maps(model, cfg, rgb)
        logits, deltas = model.head([features[name] for name in model.head_in_features])
        return {"logits": logits, "deltas": deltas}
    if hasattr(model.roi_heads, "box_in_features"):
        return regions(model, cfg, rgb, BOXES)
    features = maps(model, cfg, rgb)
    logits, deltas = model.proposal_generator.rpn_head([features[n] for n in model.proposal_generator.in_features])
    return {"rpn_logits": logits, "rpn_deltas": deltas}


def _config(choices: Mapping[str, str]) -> CfgNode:
    cfg, basic, group = get_cfg(), choices["depth"] == "18", choices["norm"] == "GN"
    node, network, classes = cfg.MODEL, choices["network"], int(choices["classes"])
    node.DEVICE, node.MASK_ON = "cpu", network == "Mask R-CNN"
    node.RESNETS.DEPTH, node.RESNETS.NORM = int(choices["depth"]), choices["norm"]
    node.RESNETS.STEM_OUT_CHANNELS = 32
    node.RESNETS.RES2_OUT_CHANNELS, node.RESNETS.WIDTH_PER_GROUP = 64, 64 if basic else 32 if group else 8
    node.RESNETS.STRIDE_IN_1X1 = choices["stride"] == "in the 1x1"
    node.FPN.OUT_CHANNELS = 32
    node.FPN.NORM = "GN" if choices["pyramid"] == "GN" else ""
    node.FPN.FUSE_TYPE = "avg" if choices["pyramid"] == "averaged" else "sum"
    mean, std = {
        "Caffe's": ([103.53, 116.28, 123.675], [1.0, 1.0, 1.0]),
        "ImageNet's": ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        "others": ([10.0, 120.0, 200.0], [30.0, 50.0, 90.0]),
    }[choices["pixels"]]
    node.PIXEL_MEAN, node.PIXEL_STD, cfg.INPUT.FORMAT = mean, std, choices["format"]
    side, most = {"128": (128, 1333), "96, at most 110": (96, 110), "as they are": (0, 1333)}[choices["sides"]]
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = side, most
    node.ROI_HEADS.NUM_CLASSES = node.RETINANET.NUM_CLASSES = classes
    if network == "RetinaNet":
        node.META_ARCHITECTURE, node.BACKBONE.NAME = "RetinaNet", "build_retinanet_resnet_fpn_backbone"
        node.RESNETS.OUT_FEATURES = node.FPN.IN_FEATURES = ["res3", "res4", "res5"]
        sizes = [[size * 2 ** (step / 3) for step in range(3)] for size in (32, 64, 128, 256, 512)]
    elif network == "C4":
        sizes = [[32, 64, 128]]
    else:
        node.BACKBONE.NAME = "build_resnet_fpn_backbone"
        node.RESNETS.OUT_FEATURES = node.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
        node.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
        node.ROI_HEADS.NAME = "CascadeROIHeads" if network == "Cascade R-CNN" else "StandardROIHeads"
        node.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
        for head in (node.ROI_BOX_HEAD, node.ROI_MASK_HEAD):
            head.POOLER_SAMPLING_RATIO = 0
        node.ROI_BOX_HEAD.NAME, node.ROI_BOX_HEAD.NUM_FC, node.ROI_BOX_HEAD.FC_DIM = "FastRCNNConvFCHead", 1, 24
        node.ROI_MASK_HEAD.NAME, node.ROI_MASK_HEAD.NUM_CONV = "MaskRCNNConvUpsampleHead", 2
        node.ROI_MASK_HEAD.CONV_DIM = 16
        node.ROI_BOX_HEAD.POOLER_RESOLUTION, node.ROI_MASK_HEAD.POOLER_RESOLUTION = 7, 14
        sizes = [[32], [64], [128], [256], [512]]
        node.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = network == "Cascade R-CNN"
    node.RPN.PRE_NMS_TOPK_TEST, node.RPN.POST_NMS_TOPK_TEST = 200, 100
    _vary(cfg, choices, sizes)
    return cfg


def _vary(cfg: CfgNode, choices: Mapping[str, str], sizes: list[list[float]]) -> None:
    node = cfg.MODEL
    ratios = [[0.5, 1.0, 2.0]]
    if choices["anchors"] == "others":
        sizes, ratios = [[size / 3 for size in level] for level in sizes], [[0.3, 1.1, 2.5]]
    if choices["anchors"] == "of each map":
        ratios = [[0.5 + n / 10, 1.0, 2.0] for n in range(len(sizes))]
    node.ANCHOR_GENERATOR.SIZES, node.ANCHOR_GENERATOR.ASPECT_RATIOS = sizes, ratios
    node.ANCHOR_GENERATOR.OFFSET = 0.5 if choices["anchors"] == "with an offset" else 0.0
    if choices["thresholds"] == "others":
        node.ROI_HEADS.SCORE_THRESH_TEST = node.RETINANET.SCORE_THRESH_TEST = 0.3
        node.ROI_HEADS.NMS_THRESH_TEST = node.RETINANET.NMS_THRESH_TEST = 0.35
        node.RPN.NMS_THRESH, node.RPN.POST_NMS_TOPK_TEST, cfg.TEST.DETECTIONS_PER_IMAGE = 0.6, 30, 12
        node.RETINANET.TOPK_CANDIDATES_TEST = 40
    if choices["box weights"] == "others":
        node.ROI_BOX_HEAD.BBOX_REG_WEIGHTS = (5.0, 5.0, 2.5, 2.5)
        node.RPN.BBOX_REG_WEIGHTS = node.RETINANET.BBOX_REG_WEIGHTS = (1.0, 1.0, 0.5, 0.5)
    if choices["pooler"] != "usual":
        node.ROI_BOX_HEAD.POOLER_TYPE = choices["pooler"]
    if choices["agnostic"] == "yes":
        node.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True


def _save(model: nn.Module, file: Path, choices: Mapping[str, str]) -> None:
    kind = getattr(torch, choices["precision"])
    state = {name: x.to(kind) if x.is_floating_point() else x for name, x in model.state_dict().items()}
    if choices["beside"] == "more tensors":
        state |= {"roi_heads.of_the_author.weight": torch.ones(2)}
    optimizer = torch.optim.SGD([torch.zeros(2)], 0.1, momentum=0.9).state_dict()
    content = {
        "nothing": state,
        "model": {"model": state},
        "as a trainer saves it": {
            "model": state,
            "optimizer": optimizer,
            "scheduler": {"last_epoch": 9},
            "iteration": 9,
        },
    }[choices["wrapped"]]
    torch.save(content, file)


def _save_config(cfg: CfgNode, folder: Path, choices: Mapping[str, str]) -> None:
    file, how, changed = folder / "config.yaml", choices["config"], cfg.clone()
    if how == "with places of another machine":
        changed.MODEL.WEIGHTS, changed.OUTPUT_DIR = "detectron2://ImageNetPretrained/MSRA/R-50.pkl", "/their/output"
        changed.DATASETS.TRAIN, changed.DATASETS.TEST = ("their_train",), ("their_test",)
        changed.MODEL.DEVICE = "cuda"
    if how in ("whole", "with places of another machine"):
        file.write_text(changed.dump())
        return
    said = _differing(yaml.safe_load(changed.dump()), yaml.safe_load(get_cfg().dump()))
    if how == "with a base":
        (folder / "Base-Theirs.yaml").write_text(yaml.safe_dump({"MODEL": said.pop("MODEL"), "VERSION": 2}))
        said["_BASE_"] = "Base-Theirs.yaml"
    file.write_text(yaml.safe_dump({**said, "VERSION": 2}))


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What of nested keys has another value."""
    found: dict[str, Any] = {}
    for key, value in one.items():
        if isinstance(value, Mapping):
            if below := _differing(value, other[key]):
                found[key] = below
        elif value != other[key]:
            found[key] = value
    return found


FORM = Form("Detectron2", write, CHOICES, frozenset())
