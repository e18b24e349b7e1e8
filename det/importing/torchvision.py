"""torchvision: Faster and Mask R-CNN and RetinaNet on a ResNet with FPN, both versions of each.

Equal are the logits and deltas of every part. What differs in whole inference: torchvision rounds the corners of its
anchors, takes an image's size over a map's, rounded down, as that map's stride, and after dropping the classes that
COCO does not use a softmax is over 81 terms, not 91. The sizes of its RetinaNet's anchors are whole numbers, which a
student's MODEL.ANCHOR_GENERATOR.SIZES have to be, too.

All this was tried with random weights, and with none of the published files yet.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import file_digest
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import detection

from densedist.common.errors import UserError
from densedist.common.importing.importer import Converted, Foreign, Importer, Tensors
from densedist.common.importing.renaming import Rule, rename
from densedist.det.importing.heads import check_anchors, rcnn_config, retinanet_config, size_major
from densedist.det.importing.shapes import NORM, UNUSED, Source, check_statistics, coco_names, resnet_rules, shape

BODY = "backbone.body."
RETINANET = "head.classification_head.cls_logits.weight"
# Of R-CNNs of version 2, which have no FrozenBN; those that train on from one may have lost their counts.
PYRAMID_NORM = ("backbone.fpn.inner_blocks.0.1.running_var",)
PUBLISHED = [
    weights.COCO_V1.url
    for weights in (
        detection.FasterRCNN_ResNet50_FPN_Weights,
        detection.MaskRCNN_ResNet50_FPN_Weights,
        detection.RetinaNet_ResNet50_FPN_Weights,
    )
]
# Of the ids 0 to 90 of a detector of COCO those that no category has; 0 is the background.
COCO_OUTPUTS, NO_CATEGORY = 91, (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
EPS = 1e-5  # of Detectron2's FrozenBN
SIZES = [[size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))] for size in (32, 64, 128, 256, 512)]
W = r"\.(weight|bias)"
REFUSED: Mapping[str, str] = {
    r"roi_heads\.keypoint_.*": "it is a Keypoint R-CNN",
    r"head\.regression_head\.bbox_ctrness\..*": "it is an FCOS",
}


def recognizes(foreign: Foreign) -> bool:
    """Return whether the tensors have torchvision's name of a backbone inside a detector."""
    return any(name.startswith(BODY) for name in foreign.tensors)


def convert(foreign: Foreign, options: Mapping[str, str]) -> Converted:
    """Convert to Detectron2's terms.

    Args:
        options: "eps" of a FrozenBN, which no file has. 0: the published weights of the first versions, and what was
            trained on from them; 1e-5: what was trained from an ImageNet backbone. "published" is 0 for a published
            file itself. Batch norms that are not frozen have 1e-5.

    Raises:
        UserError: another architecture, or an epsilon that has to be said.
    """
    for pattern, why in REFUSED.items():
        if found := next((name for name in foreign.tensors if re.fullmatch(pattern, name)), ""):
            raise UserError(f"{why} ({found}); want a Faster R-CNN, Mask R-CNN or RetinaNet")
    retinanet = RETINANET in foreign.tensors
    rules = (_retinanet_rules if retinanet else _rcnn_rules)(foreign.tensors)
    tensors, left_out = rename(foreign.tensors, rules, UNUSED)
    check_statistics(tensors)
    if _had_no_eps(foreign, options["eps"]):
        tensors = _with_eps(tensors)
    return (_convert_retinanet if retinanet else _convert_rcnn)(tensors, left_out)


def _had_no_eps(foreign: Foreign, choice: str) -> bool:
    """Return whether the backbone's batch norms divided by the root of the variance alone.

    Raises:
        UserError: nobody has said, and the file is none of the published ones.
    """
    if any(name in PYRAMID_NORM or name.endswith(".num_batches_tracked") for name in foreign.tensors):
        return False  # not frozen
    if choice != "published":
        return choice == "0"
    if _is_published(foreign.file):
        return True
    raise UserError(
        "the epsilon of its frozen batch norms is not in the file: give --option eps=0 if it is a published detector "
        "of COCO or was trained on from one, eps=1e-5 if from an ImageNet backbone"
    )


def _is_published(file: str) -> bool:
    """Return whether a file is one of the first published ones: their names end in digits of their SHA-256."""
    digits = [Path(url).stem.rpartition("-")[2] for url in PUBLISHED]
    with open(file, "rb") as content:
        return file_digest(content, "sha256").hexdigest().startswith(tuple(digits))


def _convert_rcnn(tensors: Tensors, left_out: Mapping[str, str]) -> Converted:
    outputs = shape(tensors, "roi_heads.box_predictor.cls_score.weight")[0]
    kept = _categories(outputs)
    changed = dict(tensors)
    for part in ("weight", "bias"):
        rows = {"box_predictor.cls_score": [*kept, 0], "box_predictor.bbox_pred": _sides(kept)}
        if f"roi_heads.mask_head.predictor.{part}" in tensors:
            rows["mask_head.predictor"] = kept
        for layer, numbers in rows.items():
            name = f"roi_heads.{layer}.{part}"
            if shape(tensors, name)[0] != outputs * (4 if layer.endswith("bbox_pred") else 1):
                raise UserError(f"{name} would have {shape(tensors, name)[0]} rows, which do not fit {outputs} classes")
            changed[name] = tensors[name][numbers]
    return Converted(rcnn_config(changed, _source(outputs)), changed, left_out)


def _convert_retinanet(tensors: Tensors, left_out: Mapping[str, str]) -> Converted:
    changed = size_major(tensors)
    outputs = shape(tensors, "head.cls_score.bias")[0] // 9
    for part in ("weight", "bias"):
        name = f"head.cls_score.{part}"
        changed[name] = changed[name].unflatten(0, (9, outputs))[:, _categories(outputs)].flatten(0, 1)
    norm = ""
    for name, tensor in tensors.items():
        # Version 2: there its convolutions have a group norm and no bias, Detectron2's have both.
        if name.startswith(("head.cls_subnet.", "head.bbox_subnet.")) and tensor.dim() == 4:
            bias = name.removesuffix("weight") + "bias"
            if bias not in tensors:
                norm = "GN"
                changed[bias] = torch.zeros_like(tensor[:, 0, 0, 0])
    given, wanted = shape(tensors, "backbone.top_block.p6.weight")[1::-1]
    kind = "build_retinanet_resnet_fpn_p6_of_p5_backbone" if given == wanted else "build_retinanet_resnet_fpn_backbone"
    config = retinanet_config(changed, _source(outputs, 300), kind, SIZES, norm)
    return Converted(config, changed, left_out, check=check_anchors)


def _categories(outputs: int) -> list[int]:
    """Select the outputs that are classes, of so many."""
    unused = NO_CATEGORY if outputs == COCO_OUTPUTS else ()
    return [number for number in range(1, outputs) if number not in unused]


def _sides(classes: Sequence[int]) -> list[int]:
    return [4 * number + side for number in classes for side in range(4)]


def _source(outputs: int, detections: int = 100) -> Source:
    names = coco_names() if outputs == COCO_OUTPUTS else []
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    return Source("RGB", mean, std, False, ("ROIAlign", 2), lambda _: names, detections)


def _with_eps(tensors: Tensors) -> dict[str, Tensor]:
    """Return batch norms of the backbone that give with an epsilon of EPS what they gave without.

    Raises:
        UserError: a variance of 0, which nothing can be divided by.
    """
    changed = dict(tensors)
    for name, variance in tensors.items():
        if not name.startswith("backbone.bottom_up.") or not name.endswith(".norm.running_var"):
            continue
        if bool((variance <= 0).any()):
            raise UserError(f"{name} would have a variance of 0, so its epsilon was not 0: give --option eps=1e-5")
        weight = name.removesuffix("running_var") + "weight"
        exact = variance.double()
        kind = torch.promote_types(tensors[weight].dtype, torch.float32)  # half a precision is not rounded twice
        changed[weight] = (tensors[weight].double() * ((exact + EPS) / exact).sqrt()).to(kind)
    return changed


def _pyramid_rules(first: int, levels: int) -> list[Rule]:
    """Return the rules of the backbone and of a pyramid on so many of its maps, with torchvision's old names."""
    rules = resnet_rules(BODY)
    for level in range(levels):
        for theirs, ours in (("inner", "lateral"), ("layer", "output")):
            block, name = rf"backbone\.fpn\.{theirs}_blocks\.{level}", f"backbone.fpn_{ours}{first + level}"
            rules.append((rf"{block}(?:\.0)?{W}", rf"{name}.\1"))
            rules.append((rf"{block}\.1\.{NORM}", rf"{name}.norm.\1"))
    return rules


def _rcnn_rules(tensors: Tensors) -> list[Rule]:
    rpn, box, mask = r"rpn\.head\.", r"roi_heads\.box_head\.", r"roi_heads\.mask_head\."
    deep = "rpn.head.conv.1.0.weight" in tensors
    rules = [
        *_pyramid_rules(2, 4),
        (rf"{rpn}conv(?:\.0\.0)?{W}", rf"proposal_generator.rpn_head.conv.{'conv0.' if deep else ''}\1"),
        (rf"{rpn}conv\.(\d)\.0{W}", r"proposal_generator.rpn_head.conv.conv\1.\2"),
        (rf"{rpn}cls_logits{W}", r"proposal_generator.rpn_head.objectness_logits.\1"),
        (rf"{rpn}bbox_pred{W}", r"proposal_generator.rpn_head.anchor_deltas.\1"),
        (rf"{box}fc6{W}", r"roi_heads.box_head.fc1.\1"),
        (rf"{box}fc7{W}", r"roi_heads.box_head.fc2.\1"),
        (rf"{box}5{W}", r"roi_heads.box_head.fc1.\1"),  # after four convolutions and a Flatten
        (rf"roi_heads\.box_predictor\.(cls_score|bbox_pred){W}", r"roi_heads.box_predictor.\1.\2"),
        (rf"{mask}(mask_fcn\d){W}", r"roi_heads.mask_head.\1.\2"),
        (rf"roi_heads\.mask_predictor\.conv5_mask{W}", r"roi_heads.mask_head.deconv.\1"),
        (rf"roi_heads\.mask_predictor\.mask_fcn_logits{W}", r"roi_heads.mask_head.predictor.\1"),
    ]
    for n in range(4):
        for theirs, ours in ((box, "box_head.conv"), (mask, "mask_head.mask_fcn")):
            rules.append((rf"{theirs}{n}\.0{W}", rf"roi_heads.{ours}{n + 1}.\1"))
            rules.append((rf"{theirs}{n}\.1\.{NORM}", rf"roi_heads.{ours}{n + 1}.norm.\1"))
    return rules


def _retinanet_rules(tensors: Tensors) -> list[Rule]:
    step = 3 if "head.classification_head.conv.0.1.weight" in tensors else 2  # convolution, group norm, ReLU
    rules = [*_pyramid_rules(3, 3), (rf"backbone\.fpn\.extra_blocks\.(p6|p7){W}", r"backbone.top_block.\1.\2")]
    for theirs, ours in (("classification", "cls"), ("regression", "bbox")):
        conv = rf"head\.{theirs}_head\.conv"
        rules.append((rf"{conv}\.(\d){W}", rf"head.{ours}_subnet.\1.\2"))  # of before 0.13: with a ReLU after each
        for n in range(4):
            rules.append((rf"{conv}\.{n}\.0{W}", rf"head.{ours}_subnet.{step * n}.\1"))
            rules.append((rf"{conv}\.{n}\.1{W}", rf"head.{ours}_subnet.{step * n + 1}.\1"))
    rules.append((rf"head\.classification_head\.cls_logits{W}", r"head.cls_score.\1"))
    rules.append((rf"head\.regression_head\.bbox_reg{W}", r"head.bbox_pred.\1"))
    return rules


IMPORTER = Importer("torchvision", recognizes, convert, {"eps": ("published", "0", "1e-5")})
