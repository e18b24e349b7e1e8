"""The segmentation study of tools/quickstart.py: a DeepLabV3 teacher, a small PSPNet student."""

from pathlib import Path

from densedist.common.quickstart import Task
from densedist.seg.config import without_distillation
from densedist.seg.network import build_network
from densedist.seg.quickstart import draw
from densedist.seg.task import load_config, main

CONFIGS = Path(__file__).parents[1] / "configs" / "seg" / "digits"


def _parameters(config: str, overrides: list[str]) -> int:
    network = build_network(without_distillation(load_config(config, overrides)))
    return sum(parameter.numel() for parameter in network.smp.parameters())


TASK = Task(
    tool="tools/train_seg.py",
    main=main,
    parameters=_parameters,
    teacher=CONFIGS / "deeplabv3_r18.yaml",
    student=CONFIGS / "pspnet_r10_quarter.yaml",
    # Chosen on val, each among the values that the README lists.
    kd=("DISTILL.DIST.WEIGHT", "0.0", "DISTILL.KD.WEIGHT", "1.0", "DISTILL.KD.TAU", "4.0"),
    dist=("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.TAU", "4.0"),
    unlabeled=("DATASETS.UNLABELED", "['train']"),
    test=("DATASETS.TEST", "['test']", "TEST.SAVE_LABEL_IDS", "True"),
    results="sem_seg",
    metrics=("mIoU", "mACC", "pACC"),
    draw=draw,
)


#### MERGED FROM seg.quickstart_picture
"""The quickstart's picture: mIoU as bars, and what three models make of four test images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import cv2
import matplotlib.pyplot as plt
import numpy as np

from densedist.common.report.plots import draw_bars
from densedist.common.report.panels import show
from densedist.common.quickstart import Row
from densedist.seg.data import Frame, frames
from densedist.seg.drawing import class_legend, colorize
from densedist.seg.labels import Classes
from densedist.seg.task import load_config

SHOWN = ("teacher", "student alone", "student, DIST")


def draw(rows: Sequence[Row], folders: Mapping[str, Path], file: Path, images: int = 4) -> None:
    """Draw the picture.

    Args:
        rows: of the table; their first metric is drawn.
        folders: the OUTPUT_DIR of each row by name, with predictions as labelIds in inference/labelIds.
        file: the PNG to write.
        images: how many test images, from the first.
    """
    classes = Classes.of(load_config(str(folders[SHOWN[0]] / "config.yaml"), []))
    figure = plt.figure(figsize=(8, 11.5), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[1, 4.6])
    top, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    draw_bars(top.subplots(), {row.name: dict(list(row.metrics.items())[:1]) for row in rows})
    colours = class_legend(classes.names, classes.colors)
    below.legend(handles=colours, loc="outside lower center", ncols=len(classes), handlelength=1, columnspacing=1)
    test = frames("digits", "test", "DATASETS.TEST", need_labels=True)[:images]
    lines = [("image", [plt.imread(frame["image"]) for frame in test])]
    lines.append(("truth", [_colors(frame["label"], classes) for frame in test]))
    lines += [(name, [_colors(_predicted(folders[name], frame), classes) for frame in test]) for name in SHOWN]
    for axes, (name, pictures) in zip(below.subplots(len(lines), images), lines, strict=True):
        axes[0].set_ylabel(name)
        for axis, picture in zip(axes, pictures, strict=True):
            show(axis, picture)
    figure.savefig(file, dpi=75)
    plt.close(figure)


def _predicted(folder: Path, frame: Frame) -> str:
    return str(folder / "inference" / "labelIds" / f"{frame['name']}_pred_labelIds.png")


def _colors(label_image: str, classes: Classes) -> np.ndarray:
    label_ids = cv2.imread(label_image, cv2.IMREAD_UNCHANGED)
    return colorize(classes.train_ids[label_ids], classes.colors)
