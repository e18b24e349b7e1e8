"""mmdetection 2 and 3: Faster, Mask and Cascade R-CNN and RetinaNet on ResNet or ResNeXt with FPN.

Equal are the logits and deltas of every part that is imported. What differs in whole inference: a Cascade Mask R-CNN
has a mask head for each stage there and takes the mean of their masks, Detectron2 has that of the last stage; the
scores of a cascade are the mean of the stages' probabilities here, of their logits there.

All this was tried with random weights, and with none of the published files yet.
"""

import re
from collections.abc import Mapping
from functools import partial

from densedist.common.errors import UserError
from densedist.common.importing.form import Converted, Foreign, Form
from densedist.common.importing.renaming import Rule, rename
from densedist.det.importing.mmdetection_config import Numbers, rcnn_numbers, read_model, retinanet_numbers
from densedist.det.importing.mmdetection_meta import STYLES, VERSIONS, check_style, check_version, class_names
from densedist.det.importing.rcnn import rcnn_config
from densedist.det.importing.resnet import UNUSED, resnet_rules, shape
from densedist.det.importing.retinanet import check_anchors, retinanet_config, size_major
from densedist.det.importing.shapes import RATIOS, Source, with_keys

PARTS = ("neck.", "rpn_head.", "roi_head.", "bbox_head.", "mask_head.")
RETINANET = "bbox_head.retina_cls.weight"
# One over the standard deviations of its box coders.
CASCADE_WEIGHTS = [[10.0, 10.0, 5.0, 5.0], [20.0, 20.0, 10.0, 10.0], [1 / 0.033, 1 / 0.033, 1 / 0.067, 1 / 0.067]]
SIZES = [[round(size * 2 ** (step / 3), 3) for step in range(3)] for size in (32, 64, 128, 256, 512)]
W = r"\.(weight|bias)"
REFUSED: Mapping[str, str] = {
    r".*\.conv_offset\..*": "it has deformable convolutions",
    r"neck\..*\.(gn|bn)\..*": "its feature pyramid has norms",
    r"roi_head\.(semantic_head|semantic_roi_extractor|mask_head\.\d\.conv_res)\..*": "it is a Hybrid Task Cascade",
    r"roi_head\.mask_iou_head\..*": "it is a Mask Scoring R-CNN",
}


def recognizes(foreign: Foreign) -> bool:
    """Whether the tensors have mmdetection's names of a detector's parts."""
    return any(name.startswith(PARTS) for name in foreign.tensors)


def convert(foreign: Foreign, options: Mapping[str, str]) -> Converted:
    """To Detectron2's terms.

    Args:
        options: "style", one of STYLES; "version", one of VERSIONS.

    Raises:
        UserError: version 1, another architecture, a style that its own config contradicts, or what else that config
            says and Detectron2 does not have.
    """
    check_version(foreign, options["version"])
    for pattern, why in REFUSED.items():
        if found := next((name for name in foreign.tensors if re.fullmatch(pattern, name)), ""):
            raise UserError(f"{why} ({found}), which are not converted; name a detector without")
    check_style(foreign.meta, options["style"])
    convert_one = _convert_retinanet if RETINANET in foreign.tensors else _convert_rcnn
    return convert_one(foreign, options["style"])


def _convert_rcnn(foreign: Foreign, style: str) -> Converted:
    heads = {int(match[1]) for name in foreign.tensors if (match := re.match(r"roi_head\.mask_head\.(\d)\.", name))}
    last, unused = "", dict(UNUSED)
    if heads:
        last = rf"{max(heads)}\."
        unused[rf"roi_head\.mask_head\.(?!{last})\d\..*"] = (
            "Detectron2's cascade has the mask head of the last stage only"
        )
    tensors, left_out = rename(foreign.tensors, _rcnn_rules(last), unused)
    numbers = rcnn_numbers(
        read_model(foreign.meta), any(name.startswith("roi_head.mask_head.") for name in foreign.tensors)
    )
    source = _source(foreign, style, numbers)
    return Converted(with_keys(rcnn_config(tensors, source), numbers.keys), tensors, left_out)


def _convert_retinanet(foreign: Foreign, style: str) -> Converted:
    tensors, left_out = rename(foreign.tensors, _retinanet_rules(), UNUSED)
    tensors = size_major(tensors)
    inputs, outputs = shape(tensors, "backbone.top_block.p6.weight")[1::-1]
    if inputs == outputs:
        raise UserError("its P6 comes from a map of the pyramid, and which one is not in the file; want one from C5")
    backbone = "build_retinanet_resnet_fpn_plain_p7_backbone"
    numbers = retinanet_numbers(read_model(foreign.meta))
    source = _source(foreign, style, numbers)
    config = with_keys(retinanet_config(tensors, source, backbone, SIZES), numbers.keys)
    return Converted(config, tensors, left_out, check=check_anchors)


def _source(foreign: Foreign, style: str, numbers: Numbers) -> Source:
    chosen = STYLES[style]
    return Source(
        chosen.format,
        chosen.mean,
        chosen.std,
        chosen.stride_in_1x1,
        names=partial(class_names, foreign.meta),
        cascade_weights=numbers.cascade_weights or CASCADE_WEIGHTS,
        ratios=numbers.keys.get("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [RATIOS])[0],
    )


def _common_rules(first: int, levels: int) -> list[Rule]:
    """Of the backbone, and of a pyramid on so many of its maps, the finest of which is p{first}."""
    rules = resnet_rules("backbone.")
    for level in range(levels):
        rules += [
            (rf"neck\.lateral_convs\.{level}\.conv{W}", rf"backbone.fpn_lateral{first + level}.\1"),
            (rf"neck\.fpn_convs\.{level}\.conv{W}", rf"backbone.fpn_output{first + level}.\1"),
        ]
    return rules


def _rcnn_rules(last: str) -> list[Rule]:
    """Args: last: pattern of what stands between "mask_head." and the names of its parts."""
    stage, mask = r"((?:\d\.)?)", rf"roi_head\.mask_head\.{last}"
    rules = [
        *_common_rules(2, 4),
        (rf"rpn_head\.rpn_conv{W}", r"proposal_generator.rpn_head.conv.\1"),
        (rf"rpn_head\.rpn_cls{W}", r"proposal_generator.rpn_head.objectness_logits.\1"),
        (rf"rpn_head\.rpn_reg{W}", r"proposal_generator.rpn_head.anchor_deltas.\1"),
        (rf"roi_head\.bbox_head\.{stage}fc_cls{W}", r"roi_heads.box_predictor.\1cls_score.\2"),
        (rf"roi_head\.bbox_head\.{stage}fc_reg{W}", r"roi_heads.box_predictor.\1bbox_pred.\2"),
        (rf"{mask}upsample{W}", r"roi_heads.mask_head.deconv.\1"),
        (rf"{mask}conv_logits{W}", r"roi_heads.mask_head.predictor.\1"),
    ]
    for n in range(8):
        rules.append((rf"roi_head\.bbox_head\.{stage}shared_fcs\.{n}{W}", rf"roi_heads.box_head.\1fc{n + 1}.\2"))
        rules.append((rf"{mask}convs\.{n}\.conv{W}", rf"roi_heads.mask_head.mask_fcn{n + 1}.\1"))
    return rules


def _retinanet_rules() -> list[Rule]:
    rules = [
        *_common_rules(3, 3),
        (rf"neck\.fpn_convs\.3\.conv{W}", r"backbone.top_block.p6.\1"),
        (rf"neck\.fpn_convs\.4\.conv{W}", r"backbone.top_block.p7.\1"),
        (rf"bbox_head\.retina_cls{W}", r"head.cls_score.\1"),
        (rf"bbox_head\.retina_reg{W}", r"head.bbox_pred.\1"),
    ]
    for n in range(8):  # in Detectron2 with a ReLU after each
        rules.append((rf"bbox_head\.cls_convs\.{n}\.conv{W}", rf"head.cls_subnet.{2 * n}.\1"))
        rules.append((rf"bbox_head\.reg_convs\.{n}\.conv{W}", rf"head.bbox_subnet.{2 * n}.\1"))
    return rules


FORM = Form("mmdetection", recognizes, convert, {"style": tuple(STYLES), "version": VERSIONS})
