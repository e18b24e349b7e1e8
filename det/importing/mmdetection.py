"""mmdetection 2 and 3: Faster, Mask and Cascade R-CNN and RetinaNet on ResNet or ResNeXt with FPN.

Equal are the logits and deltas of every part that is imported. What differs in whole inference: a Cascade Mask R-CNN
has a mask head for each stage there and takes the mean of their masks, Detectron2 has that of the last stage; the
scores of a cascade are the mean of the stages' probabilities here, of their logits there.

All this was tried with random weights, and with none of the published files yet.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from densedist.common.errors import UserError
from densedist.common.importing.importer import Converted, Foreign, Importer
from densedist.common.importing.renaming import Rule, rename
from densedist.det.importing.heads import check_anchors, rcnn_config, retinanet_config, size_major
from densedist.det.importing.mmdetection_config import Numbers, rcnn_numbers, read_model, retinanet_numbers
from densedist.det.importing.shapes import RATIOS, UNUSED, Source, coco_names, resnet_rules, shape, with_keys

OLD_NAMES = re.compile(r"(bbox_head\.(\d\.)?(fc_cls|shared_fcs)|mask_head)\..*")
VERSIONS = "file", "2"
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


@dataclass(frozen=True)
class Style:
    """How images are prepared, which the weights that a training started from decide.

    Args:
        format: "RGB" or "BGR".
        mean, std: in that order.
        stride_in_1x1: where a bottleneck has its stride; the word style of the config of its backbone.
    """

    format: str
    mean: Sequence[float]
    std: Sequence[float]
    stride_in_1x1: bool


STYLES: Mapping[str, Style] = {
    "pytorch": Style("RGB", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375], False),
    "caffe": Style("BGR", [103.53, 116.28, 123.675], [1.0, 1.0, 1.0], True),
    # The X101-32x8d: style pytorch, but BGR.
    "pytorch-bgr": Style("BGR", [103.53, 116.28, 123.675], [57.375, 57.12, 58.395], False),
}


def recognizes(foreign: Foreign) -> bool:
    """Return whether the tensors have mmdetection's names of a detector's parts."""
    return any(name.startswith(PARTS) for name in foreign.tensors)


def convert(foreign: Foreign, options: Mapping[str, str]) -> Converted:
    """Convert to Detectron2's terms.

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


def check_version(foreign: Foreign, said: str) -> None:
    """Make sure that a file is of version 2 or 3.

    Version 1 has other names of an R-CNN's heads; a RetinaNet's names are the same. mmdetection's own tool that
    upgrades a file of version 1 leaves the version in it as it was, rightly for us: the boxes and the RoIAlign of such
    a detector stay those of version 1. But what was trained before version 2 was released may say 1, too.

    Args:
        said: one of VERSIONS: what the file says counts, or it is 2 or 3 all the same.

    Raises:
        UserError: it is of version 1, whose background comes first and whose boxes are a pixel wider.
    """
    version = str(foreign.meta.get("mmdet_version", ""))
    old = any(OLD_NAMES.fullmatch(name) for name in foreign.tensors)
    if old or (said == "file" and version.startswith(("0.", "1."))):
        way_out = "" if old else "; if it is one, but of before the release, give --option version=2"
        raise UserError(
            f"mmdetection {version or '1.x'} wrote it, with the background first and boxes a pixel wider: name a "
            f"checkpoint of version 2 or 3{way_out}"
        )


def check_style(meta: Mapping[str, Any], style: str) -> None:
    """Make sure that the file's own config, where it has one, does not contradict the chosen style.

    Raises:
        UserError: it does; the message says which option fits.
    """
    text = next((meta[key] for key in ("config", "cfg") if isinstance(meta.get(key), str)), "")
    fitting = [name for name in STYLES if not _contradictions(text, STYLES[name])]
    if wrong := _contradictions(text, STYLES[style]):
        if not fitting:
            raise UserError(
                f"its config says {wrong[0]}, which fits no style that is known ({', '.join(STYLES)}): save its "
                "state_dict alone, and give INPUT.FORMAT, MODEL.PIXEL_MEAN and MODEL.PIXEL_STD with it"
            )
        raise UserError(f"its config says {wrong[0]}: give --option style={fitting[0]}, not {style}")


def class_names(meta: Mapping[str, Any], count: int) -> list[str]:
    """Return the names of the classes: those of the file, COCO's if it has none and there are 80, else none."""
    data = meta.get("dataset_meta")
    nests = [meta, data if isinstance(data, Mapping) else {}]
    found = next((nest[key] for nest in nests for key in ("CLASSES", "classes") if nest.get(key)), ())
    if isinstance(found, (list, tuple)) and len(found) == count:
        return [str(name) for name in found]
    coco = coco_names()
    return coco if not found and count == len(coco) else []


def _contradictions(text: str, style: Style) -> list[str]:
    """Return the words of a config that contradict the style; what it does not say is no contradiction."""
    said = {match[0]: match[1] == "caffe" for match in re.finditer(r"""\bstyle\s*=\s*['"](pytorch|caffe)['"]""", text)}
    wrong = [words for words, in_1x1 in said.items() if in_1x1 != style.stride_in_1x1]
    for match in re.finditer(r"\b(?:bgr_)?to_rgb\s*=\s*(True|False)", text):
        if (match[1] == "True") != (style.format == "RGB"):
            wrong.append(match[0])
    for match in re.finditer(r"\b(mean|std)\s*=\s*\[([\d.,\s]+)\]", text):
        given = [float(number) for number in match[2].split(",") if number.strip()]
        wanted = style.mean if match[1] == "mean" else style.std
        if len(given) != 3 or any(abs(one - other) > 0.01 for one, other in zip(given, wanted, strict=True)):
            wrong.append(" ".join(match[0].split()))
    return wrong


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
    """Return the rules of the backbone, and of a pyramid on so many of its maps, the finest of which is p{first}."""
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


IMPORTER = Importer("mmdetection", recognizes, convert, {"style": tuple(STYLES), "version": VERSIONS})
