"""torchvision's detectors, small: its own classes, with any arguments that leave names of tensors as they are, or not.

Two differences that the documentation names are made up for in the truth: torchvision rounds its anchors, and of 91
outputs 10 are no classes. A third is not: its RetinaNet clips boxes before it suppresses those that overlap.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torch import Tensor, nn
from torchvision import models
from torchvision.models import resnet
from torchvision.models.detection import faster_rcnn, mask_rcnn, retinanet, rpn
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.boxes import clip_boxes_to_image
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from helpers.imported import as_if_trained
from referee.det_authors.handing import (
    BOXES,
    PRECISIONS,
    SIDE,
    WRAPPED,
    Form,
    Found,
    Handed,
    Truth,
    opinionated,
    rounded,
    save,
    tame,
)

CHANNELS = 64  # of the pyramid: two for each group of a norm
COCO_IDS = [category["id"] for category in COCO_CATEGORIES if category["isthing"]]
CHOICES: Mapping[str, tuple[str, ...]] = {
    "network": ("Faster R-CNN", "Mask R-CNN", "RetinaNet"),
    "version": ("1", "2"),
    "body": ("ResNet-50", "ResNet-18", "ResNet-101", "ResNeXt-50", "MobileNet", "no pyramid"),
    "norm": ("frozen", "batch norm", "group norm"),
    "eps": ("0", "1e-5", "0, unsaid", "1e-5, unsaid"),
    "outputs": ("5", "91", "2"),
    "wrapped": WRAPPED,
    "precision": PRECISIONS,
    "anchors": ("usual", "smaller", "other ratios", "one ratio", "two sizes"),
    "pixels": ("ImageNet's", "0 to 1"),
    "thresholds": ("usual", "others"),
    "box weights": ("usual", "others"),
    "pooler": ("usual", "others"),
    "heads": ("usual", "two convolutions", "deep RPN", "two masks"),
    "levels": ("usual", "three"),
}
MAY = {
    ("body", "MobileNet"),
    ("body", "no pyramid"),
    ("norm", "group norm"),
    ("eps", "0, unsaid"),
    ("eps", "1e-5, unsaid"),
    ("wrapped", "whole module"),
    ("anchors", "one ratio"),  # of a RetinaNet
    ("anchors", "two sizes"),
    ("heads", "two convolutions"),
    ("levels", "three"),
}
RATIOS = {"other ratios": (0.25, 1.0, 4.0), "one ratio": (1.0,)}
PIXELS = {"ImageNet's": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), "0 to 1": ([0.0] * 3, [1.0] * 3)}
WEIGHTS = (5.0, 5.0, 2.5, 2.5)
# What a constructor is given, and the key that says the same here.
RCNN_NUMBERS: Mapping[str, tuple[float, str]] = {
    "box_score_thresh": (0.1, "MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
    "box_nms_thresh": (0.4, "MODEL.ROI_HEADS.NMS_THRESH_TEST"),
    "box_detections_per_img": (20, "TEST.DETECTIONS_PER_IMAGE"),
    "rpn_pre_nms_top_n_test": (60, "MODEL.RPN.PRE_NMS_TOPK_TEST"),
    "rpn_post_nms_top_n_test": (40, "MODEL.RPN.POST_NMS_TOPK_TEST"),
    "rpn_nms_thresh": (0.6, "MODEL.RPN.NMS_THRESH"),
}
RETINANET_NUMBERS: Mapping[str, tuple[float, str]] = {
    "score_thresh": (0.5, "MODEL.RETINANET.SCORE_THRESH_TEST"),
    "nms_thresh": (0.4, "MODEL.RETINANET.NMS_THRESH_TEST"),
    "detections_per_img": (20, "TEST.DETECTIONS_PER_IMAGE"),
    "topk_candidates": (50, "MODEL.RETINANET.TOPK_CANDIDATES_TEST"),
}


def write(folder: Path, seed: int, choices: Mapping[str, str]) -> Handed:
    torch.manual_seed(seed)
    model = as_if_trained(_build(choices), seed)
    if _dense(choices):
        tame(model.head.regression_head.bbox_reg)
    else:
        tame(model.rpn.head.bbox_pred, model.roi_heads.box_predictor.bbox_pred)
        opinionated(model.roi_heads.box_predictor.cls_score, 0)
    model = rounded(model, choices["precision"])
    file = save(model, folder, choices["precision"], choices["wrapped"])
    asked = choices["version"] == "1" and choices["norm"] != "batch norm"
    said = choices["eps"] if asked and "unsaid" not in choices["eps"] else ""
    lost = choices["wrapped"] == "whole module" or choices["body"] in ("MobileNet", "no pyramid")
    truth = None if lost else _truth(model, choices)
    return Handed(file, truth, "", {"eps": said} if said else {}, _words(model, choices))


def _dense(choices: Mapping[str, str]) -> bool:
    return choices["network"] == "RetinaNet"


def _frozen(choices: Mapping[str, str]) -> bool:
    return choices["version"] == "1" and choices["norm"] == "frozen"


def _build(choices: Mapping[str, str]) -> nn.Module:
    norm: Callable[..., nn.Module] = {
        "frozen": FrozenBatchNorm2d,
        "batch norm": nn.BatchNorm2d,
        "group norm": partial(nn.GroupNorm, 8),
    }[choices["norm"]]
    if choices["version"] == "2":
        norm = nn.BatchNorm2d
    model = (_retinanet if _dense(choices) else _rcnn)(choices, norm)
    if _frozen(choices) and choices["eps"].startswith("0"):
        overwrite_eps(model, 0.0)
    return model


def _body(choices: Mapping[str, str], norm: Callable[..., nn.Module], levels: list[int], top: nn.Module) -> nn.Module:
    if choices["body"] == "MobileNet":
        body = models.mobilenet_v3_small(norm_layer=norm).features
        return BackboneWithFPN(body, {"1": "0", "3": "1", "8": "2", "12": "3"}, [16, 24, 48, 576], CHANNELS, top)
    if choices["body"] == "no pyramid":
        body = nn.Sequential(nn.Conv2d(3, CHANNELS, 7, 16, 3), nn.ReLU())
        body.out_channels = CHANNELS
        return body
    blocks, more = {
        "ResNet-50": ([3, 4, 6, 3], {"width_per_group": 8}),
        "ResNet-101": ([3, 4, 23, 3], {"width_per_group": 8}),
        "ResNeXt-50": ([3, 4, 6, 3], {"groups": 4, "width_per_group": 4}),
        "ResNet-18": ([2, 2, 2, 2], {}),
    }[choices["body"]]
    basic = choices["body"] == "ResNet-18"
    body = resnet.ResNet(resnet.BasicBlock if basic else resnet.Bottleneck, blocks, norm_layer=norm, **more)
    del body.fc
    widths = [64 * 2**n * (1 if basic else 4) for n in range(4)]
    pyramid = nn.BatchNorm2d if choices["version"] == "2" and not _dense(choices) else None
    return BackboneWithFPN(
        body,
        {f"layer{level}": str(n) for n, level in enumerate(levels)},
        [widths[level - 1] for level in levels],
        CHANNELS,
        top,
        pyramid,
    )


def _anchors(choices: Mapping[str, str]) -> AnchorGenerator:
    first = 8 if choices["anchors"] == "smaller" else 32
    kind, steps = choices["anchors"], 3 if _dense(choices) else 1
    if kind == "one ratio":
        steps = 9 if _dense(choices) else 3
    if kind == "two sizes":
        steps = 2
    levels = 1 if choices["body"] == "no pyramid" else 4 if _three(choices) else 5
    sizes = tuple(tuple(int(first * 2 ** (n + step / steps)) for step in range(steps)) for n in range(levels))
    return AnchorGenerator(sizes, (RATIOS.get(kind, (0.5, 1.0, 2.0)),) * levels)


def _three(choices: Mapping[str, str]) -> bool:
    return choices["levels"] == "three" and not _dense(choices)


def _numbers(choices: Mapping[str, str]) -> Mapping[str, tuple[float, str]]:
    if choices["thresholds"] == "usual":
        return {}
    return RETINANET_NUMBERS if _dense(choices) else RCNN_NUMBERS


def _common(choices: Mapping[str, str]) -> dict[str, Any]:
    mean, std = PIXELS[choices["pixels"]]
    numbers = {name: value for name, (value, _) in _numbers(choices).items()}
    return {"image_mean": mean, "image_std": std, "min_size": SIDE, **numbers}


def _rcnn(choices: Mapping[str, str], norm: Callable[..., nn.Module]) -> nn.Module:
    second, outputs = choices["version"] == "2", int(choices["outputs"])
    body = _body(choices, norm, [2, 3, 4] if _three(choices) else [1, 2, 3, 4], LastLevelMaxPool())
    anchors, more = _anchors(choices), _common(choices)
    depth = 3 if choices["heads"] == "deep RPN" else 2 if second else 1
    box: nn.Module = faster_rcnn.TwoMLPHead(CHANNELS * 49, 24)
    if second or choices["heads"] == "two convolutions":
        convs = [16] * (2 if choices["heads"] == "two convolutions" else 4)
        head_norm = nn.BatchNorm2d if second else None
        box = faster_rcnn.FastRCNNConvFCHead((CHANNELS, 7, 7), convs, [24], norm_layer=head_norm)
    if choices["box weights"] == "others":
        more["bbox_reg_weights"] = WEIGHTS
    names = ["0"] if choices["body"] == "no pyramid" else [str(n) for n in range(3 if _three(choices) else 4)]
    sampling = 1 if choices["pooler"] == "others" else 2
    more |= {
        "rpn_anchor_generator": anchors,
        "rpn_head": rpn.RPNHead(CHANNELS, anchors.num_anchors_per_location()[0], conv_depth=depth),
        "box_roi_pool": MultiScaleRoIAlign(names, 7, sampling),
        "box_head": box,
        "box_predictor": faster_rcnn.FastRCNNPredictor(24, outputs),
    }
    if choices["network"] == "Faster R-CNN":
        return faster_rcnn.FasterRCNN(body, **more)
    layers = [16] * (2 if choices["heads"] == "two masks" else 4)
    return mask_rcnn.MaskRCNN(
        body,
        mask_roi_pool=MultiScaleRoIAlign(names, 14, sampling),
        mask_head=mask_rcnn.MaskRCNNHeads(CHANNELS, layers, 1, norm_layer=nn.BatchNorm2d if second else None),
        mask_predictor=mask_rcnn.MaskRCNNPredictor(16, 16, outputs),
        **more,
    )


def _retinanet(choices: Mapping[str, str], norm: Callable[..., nn.Module]) -> nn.Module:
    second, outputs = choices["version"] == "2", int(choices["outputs"])
    levels = [2, 3, 4]
    widest = 512 if choices["body"] == "ResNet-18" else 2048
    top = LastLevelP6P7(widest if second else CHANNELS, CHANNELS)
    body, anchors = _body(choices, norm, levels, top), _anchors(choices)
    group = partial(nn.GroupNorm, 32) if second else None
    head = retinanet.RetinaNetHead(CHANNELS, anchors.num_anchors_per_location()[0], outputs, norm_layer=group)
    return retinanet.RetinaNet(body, outputs, anchor_generator=anchors, head=head, **_common(choices))


def _words(model: Any, choices: Mapping[str, str]) -> list[str]:
    """What the author's page says of what no checkpoint has."""
    words = [word for value, key in _numbers(choices).values() for word in (key, str(value))]
    if choices["anchors"] != "usual":
        generator = model.anchor_generator if _dense(choices) else model.rpn.anchor_generator
        words += ["MODEL.ANCHOR_GENERATOR.SIZES", str([list(sizes) for sizes in generator.sizes])]
        words += ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", str([list(generator.aspect_ratios[0])])]
    if choices["pixels"] != "ImageNet's":
        mean, std = PIXELS[choices["pixels"]]
        words += ["MODEL.PIXEL_MEAN", str([255 * x for x in mean]), "MODEL.PIXEL_STD", str([255 * x for x in std])]
    if _dense(choices):
        return words
    if choices["box weights"] == "others":
        words += ["MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", str(list(WEIGHTS))]
    if choices["pooler"] == "others":
        words += ["MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", "1", "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO", "1"]
    return words


def _truth(model: Any, choices: Mapping[str, str]) -> Truth:
    outputs, dense = int(choices["outputs"]), _dense(choices)
    kept = COCO_IDS if outputs == 91 else list(range(1, outputs))
    generator = model.anchor_generator if dense else model.rpn.anchor_generator
    anchors = [
        torch.tensor([(size / ratio**0.5, size * ratio**0.5) for ratio in ratios for size in sizes])
        for sizes, ratios in zip(generator.sizes, generator.aspect_ratios, strict=True)
    ]
    exact = copy.deepcopy(model)
    (exact if dense else exact.rpn).anchor_generator.cell_anchors = [torch.cat([-x, x], 1) / 2 for x in anchors]
    _silence([number for number in range(outputs) if number not in kept], exact, dense)
    parts = partial(_dense_parts if dense else _rcnn_parts, model, kept)
    sides = {"INPUT.MIN_SIZE_TEST": 800, "INPUT.MAX_SIZE_TEST": 1333}
    return Truth(parts, anchors, partial(_whole, exact, kept, dense), len(kept), sides)


@torch.no_grad()
def _silence(unused: list[int], model: Any, dense: bool) -> None:
    """Outputs that are no classes, so that they have no share in a softmax; of an R-CNN but for the background."""
    if dense:
        model.head.classification_head.cls_logits.bias.view(-1, model.head.classification_head.num_classes)[
            :, unused
        ] = -1e4
    else:
        model.roi_heads.box_predictor.cls_score.bias[[number for number in unused if number]] = -1e4


@torch.no_grad()
def _whole(model: Any, kept: list[int], dense: bool, rgb: Tensor) -> Found:
    image = [rgb.float() / 255]
    if dense:
        with mock.patch.object(retinanet.box_ops, "clip_boxes_to_image", lambda boxes, _: boxes):
            found = model(image)[0]
    else:
        found = model(image)[0]
    boxes = clip_boxes_to_image(found["boxes"], (SIDE, SIDE))
    return Found(boxes, found["scores"], torch.tensor([kept.index(int(label)) for label in found["labels"]]))


def _maps(model: Any, rgb: Tensor) -> dict[str, Tensor]:
    return model.backbone(model.transform.normalize(rgb.float() / 255)[None])


@torch.no_grad()
def _rcnn_parts(model: Any, kept: list[int], rgb: Tensor) -> dict[str, list[Tensor]]:
    maps, heads, size = _maps(model, rgb), model.roi_heads, [(SIDE, SIDE)]
    logits, deltas = model.rpn.head(list(maps.values()))
    scores, moves = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, [BOXES], size)))
    result = {"rpn_logits": logits, "rpn_deltas": deltas, "logits": [scores[:, [*kept, 0]]]}
    result["deltas"] = [moves.unflatten(1, (-1, 4))[:, kept].flatten(1)]
    result["boxes"] = [heads.box_coder.decode(moves, [BOXES])[:, kept].flatten(1)]
    if heads.has_mask():
        pooled = heads.mask_roi_pool(maps, [BOXES], size)
        result["masks"] = [heads.mask_predictor(heads.mask_head(pooled))[:, kept]]
    return result


@torch.no_grad()
def _dense_parts(model: Any, kept: list[int], rgb: Tensor) -> dict[str, list[Tensor]]:
    maps, (cls, reg) = list(_maps(model, rgb).values()), (model.head.classification_head, model.head.regression_head)
    logits = [cls.cls_logits(cls.conv(x)).unflatten(1, (-1, cls.num_classes))[:, :, kept].flatten(1, 2) for x in maps]
    return {"logits": logits, "deltas": [reg.bbox_reg(reg.conv(x)) for x in maps]}


FORM = Form("torchvision", write, CHOICES, frozenset(MAY))
