"""What a file of mmdetection says beside its tensors: version, class names, and how its images were prepared.

Its own config is a program in words. It is searched for a few of them and never run.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from densedist.common.errors import UserError
from densedist.common.importing.form import Foreign
from densedist.det.importing.shapes import coco_names


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
OLD_NAMES = re.compile(r"(bbox_head\.(\d\.)?(fc_cls|shared_fcs)|mask_head)\..*")
VERSIONS = "file", "2"


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


def _contradictions(text: str, style: Style) -> list[str]:
    """The words of a config that say other than the style; what it does not say is no contradiction."""
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


def class_names(meta: Mapping[str, Any], count: int) -> list[str]:
    """The names of the classes: those of the file, COCO's if it has none and there are 80, else none."""
    data = meta.get("dataset_meta")
    nests = [meta, data if isinstance(data, Mapping) else {}]
    found = next((nest[key] for nest in nests for key in ("CLASSES", "classes") if nest.get(key)), ())
    if isinstance(found, (list, tuple)) and len(found) == count:
        return [str(name) for name in found]
    coco = coco_names()
    return coco if not found and count == len(coco) else []
