"""Segmentations and their errors as pictures."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from seg.labels import IGNORE


def colorize(labels: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """trainIds (H, W) as RGB (H, W, 3) uint8, IGNORE black; colors (K, 3) uint8."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    table[IGNORE] = 0
    return table[labels]


def overlay(image: np.ndarray, labels: np.ndarray, colors: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """The colours of trainIds (H, W) over an RGB image (H, W, 3) of uint8."""
    mixed = (1 - opacity) * image + opacity * colorize(labels, colors)
    return mixed.round().astype(np.uint8)


def draw_confusion(confusion: np.ndarray, names: Sequence[str], file: Path) -> None:
    """Confusion matrix (K, K), rows = truth, as a PNG; each row in percent of the truth."""
    truth = confusion.sum(1, keepdims=True)
    percent = np.divide(100 * confusion, truth, out=np.full(confusion.shape, np.nan), where=truth > 0)
    side = 2.5 + 0.42 * len(names)
    figure, axis = plt.subplots(figsize=(side, side), layout="constrained")
    axis.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:
            colour = "white" if value > 60 else "black"
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("prediction")
    axis.set_ylabel("truth (rows sum to 100 %)")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)
    plt.close(figure)
