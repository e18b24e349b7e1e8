"""The quickstart's picture: mIoU as bars, and what three models make of four test images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import cv2
import matplotlib.pyplot as plt
import numpy as np

from common.bars import draw_bars
from common.panels import show
from common.quickstart import Row
from seg.data import Frame, frames
from seg.drawing import class_legend, colorize
from seg.labels import Classes
from seg.training import load_config

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
