"""The segmentation study of the quickstart: a DeepLabV3 teacher, a small PSPNet student, their picture."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread

from densedist.common.report.panels import show
from densedist.common.report.plots import draw_bars
from densedist.common.run_files import CONFIG
from densedist.common.task import Demonstration
from densedist.seg.data.frames import Frame, frames
from densedist.seg.drawing import class_legend, colorize
from densedist.seg.labels import Classes
from densedist.seg.models import load_config

SHOWN = ("teacher", "student alone", "student, DIST")


def draw(models: Mapping[str, Mapping[str, float]], folders: Mapping[str, Path], file: Path, images: int = 4) -> None:
    """Draw mIoU as bars, and what the models of SHOWN make of test images.

    Args:
        models: for each row of the table its metrics in percent, the first of which is drawn.
        folders: the OUTPUT_DIR of each row by name, with predictions as labelIds in inference/labelIds.
        file: the PNG to write.
        images: how many test images, from the first.
    """
    classes = Classes.of(load_config(str(folders[SHOWN[0]] / CONFIG), []))
    figure = Figure(figsize=(8, 11.5), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[1, 4.6])
    top, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    draw_bars(top.subplots(), {name: dict(list(metrics.items())[:1]) for name, metrics in models.items()})
    colors = class_legend(classes.names, classes.colors)
    below.legend(handles=colors, loc="outside lower center", ncols=len(classes), handlelength=1, columnspacing=1)
    test = frames("digits", "test", "DATASETS.TEST", need_labels=True)[:images]
    lines = [("image", [imread(frame["image"]) for frame in test])]
    lines.append(("truth", [_colors(frame["label"], classes) for frame in test]))
    lines += [(name, [_colors(_predicted(folders[name], frame), classes) for frame in test]) for name in SHOWN]
    for axes, (name, pictures) in zip(below.subplots(len(lines), images), lines, strict=True):
        axes[0].set_ylabel(name)
        for axis, picture in zip(axes, pictures, strict=True):
            show(axis, picture)
    figure.savefig(file, dpi=75)


def _predicted(folder: Path, frame: Frame) -> str:
    return str(folder / "inference" / "labelIds" / f"{frame['name']}_pred_labelIds.png")


def _colors(label_image: str, classes: Classes) -> np.ndarray:
    label_ids = cv2.imread(label_image, cv2.IMREAD_UNCHANGED)
    return colorize(classes.train_ids[label_ids], classes.colors)


DEMONSTRATION = Demonstration(
    teacher="seg/digits/deeplabv3_r18.yaml",
    student="seg/digits/pspnet_r10_quarter.yaml",
    # Chosen on val, each among the values that the README lists.
    kd=("DISTILL.DIST.WEIGHT", "0.0", "DISTILL.KD.WEIGHT", "1.0", "DISTILL.KD.TAU", "4.0"),
    dist=("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.TAU", "4.0"),
    unlabeled=("DATASETS.UNLABELED", "['train']"),
    test=("DATASETS.TEST", "['test']", "TEST.SAVE_LABEL_IDS", "True"),
    metrics=("mIoU", "mACC", "pACC"),
    draw=draw,
)
