"""Segmentations and their errors as pictures."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from densedist.seg.labels import IGNORE

OPACITY = 0.8  # of classes on a gray photograph: nearly the colors of the legend
FAINT = 32  # the least difference of a photograph's grays that is stretched: below lies noise
CONTRAST = 0.3  # of a gray photograph, from 0 to 1
LIGHT, DARK = 178, 0  # the darkest value of a light one and of a dark one
NUMBERED = 40  # classes up to which a confusion matrix has numbers
ROWS = 256  # of an image that are mixed at once: the numbers between take eight times its room
Color = tuple[int, ...]
FAR = 29  # CIE Lab's ΔE (1976), from which on two colors are easy to tell apart in small regions
STRIPES = 40  # of ignored pixels, in a picture's width
LIFTED = 80  # the darkest value of a photograph under the colors of classes
NEUTRAL = ((0, 0, 0), (255, 255, 255), (128, 128, 128))


def to_rgb(image: Tensor, channels: str) -> np.ndarray:
    """Convert a raw image (3, H, W) of uint8, "RGB" or "BGR", to RGB (H, W, 3)."""
    picture = image.numpy().transpose(1, 2, 0)
    return picture if channels == "RGB" else picture[..., ::-1]


def write(path: Path, image: np.ndarray) -> None:
    """Write numbers (H, W) or an RGB image (H, W, 3), of uint8, as a PNG; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


def colorize(labels: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Color trainIds (H, W) as RGB (H, W, 3) uint8, IGNORE in stripes of ignored_colors; colors (K, 3) uint8."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    table[IGNORE], stripe = ignored_colors(colors)
    colored: np.ndarray = table[labels]
    if (ignored := labels == IGNORE).any():
        height, width = labels.shape
        # Powers of 2, so that parts of ROWS rows fit together.
        wide = 2 ** int(np.log2(np.clip(width / STRIPES, 2, ROWS / 2)))
        place = np.arange(height)[:, None] + np.arange(width)
        colored[ignored & (place // wide % 2 == 1)] = stripe
    return colored


def lighter(image: np.ndarray) -> np.ndarray:
    """Return an RGB image (H, W, 3) of uint8 without dark values: the colors of classes over it show at night, too."""
    return cv2.LUT(image, np.linspace(LIFTED, 255, 256).round().astype(np.uint8))


def overlay(image: np.ndarray, labels: np.ndarray, colors: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """Lay the colors of trainIds (H, W) over an RGB image (H, W, 3) of uint8."""
    mixed = np.empty(image.shape, np.uint8)
    for start in range(0, len(image), ROWS):
        rows = slice(start, start + ROWS)
        mixed[rows] = ((1 - opacity) * image[rows] + opacity * colorize(labels[rows], colors)).round()
    return mixed


def wrong(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return bool (H, W): trainIds that are not the truth's; False where the truth is IGNORE."""
    return (prediction != truth) & (truth != IGNORE)


def paint(image: np.ndarray, labels: np.ndarray, colors: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """Paint trainIds (H, W) over an RGB image (H, W, 3) of uint8, which is gray: its colors would change theirs.

    Args:
        colors: (K, 3) uint8 of the classes.
        where: bool (H, W), the pixels that are painted, the others stay gray: so right and wrong need no colors of
            their own, which would be those of classes, too. None = all.
    """
    gray = gray_photograph(image, colors)
    painted = overlay(gray, labels, colors, OPACITY)
    return painted if where is None else np.where(where[..., None], painted, gray)


def gray_photograph(image: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Return an RGB image (H, W, 3) of uint8 in few grays: light or dark ones, as classes look least like them.

    A dark or hazy one is stretched to the same grays.
    """
    gray = image.mean(2, keepdims=True)
    low, high = np.percentile(gray, (1, 99))
    stretched = ((gray - low) * (255 / max(high - low, FAINT))).clip(0, 255)
    return (stretched.repeat(3, 2) * CONTRAST + _darkest(colors)).round().astype(np.uint8)


def _darkest(colors: np.ndarray) -> int:
    """Return LIGHT or DARK, whichever is farther from the nearest class; colors (K, 3)."""
    taken = _lab(colors.tolist())

    def nearest(darkest: int) -> float:
        grays = [(round(darkest + CONTRAST * 255 * part),) * 3 for part in (0.0, 0.5, 1.0)]
        return float(np.linalg.norm(_lab(grays)[:, None] - taken, axis=2).min())

    return max((LIGHT, DARK), key=nearest)


def ignored_colors(colors: np.ndarray) -> tuple[Color, Color]:
    """Return two colors (r, g, b) of ignored pixels, which are striped, as no class and no photograph is.

    The first is black, or white or gray where a class is nearly that; the second is gray, or else white.

    Args:
        colors: (K, 3) of the classes.
    """
    first = _apart(NEUTRAL[0], NEUTRAL[1:], colors.tolist())
    return first, NEUTRAL[1] if first == NEUTRAL[2] else NEUTRAL[2]


def class_legend(names: Sequence[str], colors: np.ndarray, ignored: bool = False, unpainted: str = "") -> list[Patch]:
    """Return the legend's entries for K classes; colors (K, 3) uint8.

    Args:
        ignored: whether there are ignored pixels.
        unpainted: what it means that paint() left a pixel gray; "" = there is none.
    """
    entries = [legend_entry(name, color) for name, color in zip(names, colors.tolist(), strict=True)]
    if ignored:
        first, second = ignored_colors(colors)
        entries.append(legend_entry("ignored", first))
        entries[-1].set(edgecolor=_of_matplotlib(second), hatch="////")
    if unpainted:
        gray = round(_darkest(colors) + CONTRAST * 255 / 2)
        entries.append(legend_entry(f"gray photograph: {unpainted}", (gray,) * 3))
    return entries


def draw_legend(names: Sequence[str], colors: np.ndarray, file: Path) -> None:
    """Draw the colors of K classes to a PNG; its folder is made."""
    columns = -(-len(names) // 20)
    figure = Figure(figsize=(2.4 * columns, 0.4 + 0.27 * min(len(names), 20)))
    figure.legend(handles=class_legend(names, colors), loc="center", ncols=columns, frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)


def draw_confusion(confusion: np.ndarray, names: Sequence[str], file: Path) -> None:
    """Draw a confusion matrix (K, K), rows = truth, as a PNG; each row in percent of the truth.

    Of up to NUMBERED classes the cells have their numbers: drawing them takes a time that grows with their square.
    """
    truth = confusion.sum(1, keepdims=True)
    percent = np.divide(100 * confusion, truth, out=np.full(confusion.shape, np.nan), where=truth > 0)
    numbered = len(names) <= NUMBERED
    side = 2.5 + (0.42 if numbered else 0.15) * len(names)
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    axis.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(percent) if numbered else ():
        if value >= 0.5:
            color = "white" if value > 60 else "black"
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=color)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=None if numbered else 7)
    axis.set_yticks(range(len(names)), names, fontsize=None if numbered else 7)
    axis.set_xlabel("prediction")
    axis.set_ylabel("truth (rows sum to 100 %)")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)


def legend_entry(label: str, color: Sequence[int]) -> Patch:
    """Return one entry of a legend; color (r, g, b) in 0 to 255."""
    # White shows, too.
    return Patch(facecolor=_of_matplotlib(color), edgecolor="gray", linewidth=0.5, label=label)


def _of_matplotlib(color: Sequence[int]) -> tuple[float, float, float]:
    red, green, blue = (value / 255 for value in color)
    return red, green, blue


def _apart(wanted: Color, others: Sequence[Color], taken: Sequence[Sequence[int]]) -> Color:
    """Return the color that is wanted if it is far from those that are taken, else the farthest of all."""
    candidates = [wanted, *others]
    distance = np.linalg.norm(_lab(candidates)[:, None] - _lab(taken), axis=2).min(1)
    return candidates[0 if distance[0] >= FAR else int(distance.argmax())]


def _lab(colors: Sequence[Sequence[int]]) -> np.ndarray:
    """Convert RGB (N, 3) of 0 to 255 to CIE Lab, (N, 3)."""
    return cv2.cvtColor(np.array(colors, np.float32)[None] / 255, cv2.COLOR_RGB2LAB)[0]
