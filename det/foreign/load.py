"""From a config and a path or a name to a detector that somebody else has built."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from densedist.common.config.functions import call
from densedist.common.distill.checks import check_order
from densedist.common.errors import UserError
from densedist.common.foreign.programs import read_program
from densedist.det.foreign import transformers
from densedist.det.foreign.detector import ForeignDetector
from densedist.det.foreign.programs import OUTPUTS, ProgramDetector


def load_foreign(
    cfg: CfgNode, weights: str, key: str, declared: Sequence[str] = (), asked: Sequence[str] = ()
) -> ForeignDetector:
    """Load the detector of MODEL.KIND, another than Detectron2's, on MODEL.DEVICE, in eval mode, and try it out.

    Args:
        cfg: MODEL.ROI_HEADS.SCORE_THRESH_TEST and TEST.DETECTIONS_PER_IMAGE hold for each; how images are normalized
            and resized, a folder of transformers says itself.
        weights: a file, a folder, or "module:function".
        key: what names them, for messages.
        declared: the names of its classes, as the config has them; empty = it says none.
        asked: the classes that it is to find, of what it knows; a zero-shot model is asked for these.

    Raises:
        UserError: what cannot be read, finds no boxes, or has other classes than the config says.
    """
    source = f"{key}: {weights}"
    limits = cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE
    detector: ForeignDetector
    if cfg.MODEL.KIND == "transformers":
        detector = transformers.load(weights, key, asked or declared, *limits)
        _check_classes(detector.names, () if detector.prompts else declared, source)
    else:
        detector = _of_program(cfg, weights, key, declared, asked, limits)
    if cfg.MODEL.KIND != "transformers":
        detector.sides = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    detector = detector.to(cfg.MODEL.DEVICE).eval()
    detector.try_out()
    return detector


def _of_program(
    cfg: CfgNode, weights: str, key: str, declared: Sequence[str], asked: Sequence[str], limits: tuple[float, int]
) -> ProgramDetector:
    node, source = cfg.MODEL, f"{key}: {weights}"
    pixels = node.PIXEL_MEAN, node.PIXEL_STD, node.STRIDE
    if node.KIND == "function":
        run: Any = call(weights, cfg.IMPORTS, key)
        if not callable(run):
            raise UserError(f"{source} returns {type(run).__name__}: want a torch.nn.Module")
        if isinstance(run, nn.Module):
            run = run.to(node.DEVICE).eval()
        return ProgramDetector(_numbered(declared, asked, source), *limits, source, run, *pixels)
    program = read_program(node.KIND, weights, node.DEVICE, node.TRUST_PICKLE, key, OUTPUTS)
    if program.raw:
        # What we exported pads by itself.
        pixels = [0.0] * 3, [1.0] * 3, 1 if program.description else node.STRIDE
    if program.description:  # it has left out what is below its own threshold, of a name that the config may not know
        limits = min(limits[0], node.RETINANET.SCORE_THRESH_TEST), limits[1]
    names = _numbered(declared or program.description.get("classes") or (), asked, source)
    return ProgramDetector(names, *limits, source, program.run, *pixels, program)


def _numbered(names: Sequence[str], asked: Sequence[str], source: str) -> list[str]:
    """Return the names of the classes of a program, by its numbers: those that are known, or else the numbers.

    Raises:
        UserError: they are not known, and what it is asked for are no numbers.
    """
    if names:
        return list(map(str, names))
    if not asked or not all(name.isdecimal() for name in asked):
        raise UserError(
            f"{source} does not name its classes: name them in DATASETS.CLASSES of its config, in the order of its "
            "labels, or give numbers in DISTILL.TEACHER.CLASSES"
        )
    return [str(number) for number in range(max(map(int, asked)) + 1)]


def _check_classes(names: Sequence[str], declared: Sequence[str], source: str) -> None:
    if not declared:
        return
    if len(names) != len(declared):
        raise UserError(f"{source} predicts {len(names)} classes, but the config has {len(declared)}")
    check_order(declared, names, source)
