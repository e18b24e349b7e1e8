"""Relations: which classes a student and its teacher take for each other, summed over images, and drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from densedist.common.losses.checks import Activation

NUMBERS = 12  # up to so many classes a cell shows its number


class Relations:
    """Pearson correlations of class probabilities, added up over any number of images, in float64.

    With p = activation(logits / tau), rows being instances (pixels, anchors, RoIs) and columns classes, DIST (Huang
    et al., NeurIPS 2022) asks for two things. Inter: each row of the student correlates with the teacher's; intra:
    each column does. A column that correlates perfectly is a rising linear function of the teacher's, and
    correlations do not see such functions: then the correlations among the student's own columns, a matrix (K, K),
    are exactly the teacher's. So the two matrices show what the student kept, class by class, and `intra` and
    `inter` how far the two terms of the loss have come: they are 1 minus the means of these.

    Args:
        classes: K, the columns.
        tau: temperature, above 0.
        activation: "softmax" over the classes, or "sigmoid" for each.
    """

    def __init__(self, classes: int, tau: float = 1.0, activation: Activation = "softmax") -> None:
        self.classes, self.tau, self.activation = classes, tau, activation
        self.rows = 0
        # Of the student's and the teacher's columns side by side, (2K,) and (2K, 2K), centered.
        self._mean = np.zeros(2 * classes)
        self._moments = np.zeros((2 * classes, 2 * classes))
        self._inter: list[np.ndarray] = []

    @torch.no_grad()
    def add(self, student: Tensor, teacher: Tensor | None = None) -> None:
        """Add rows of logits (R, K), R above 0; the teacher's in every call or in none."""
        p = self._probabilities(student)
        q = p if teacher is None else self._probabilities(teacher)
        both = torch.cat([p, q], 1)
        mean = both.mean(0)
        centered = both - mean
        # Chan, Golub and LeVeque, 1979: no cancellation, however many images there are.
        shift, rows = mean.cpu().numpy() - self._mean, self.rows + len(both)
        self._moments += (centered.T @ centered).cpu().numpy() + np.outer(shift, shift) * (self.rows * len(both) / rows)
        self._mean += shift * (len(both) / rows)
        self.rows = rows
        p, q = p - p.mean(1, keepdim=True), q - q.mean(1, keepdim=True)
        self._inter.append(((p * q).sum(1) / (p.norm(dim=1) * q.norm(dim=1))).cpu().numpy())

    def _probabilities(self, logits: Tensor) -> Tensor:
        scaled = logits.double() / self.tau
        return scaled.softmax(1) if self.activation == "softmax" else scaled.sigmoid()

    @property
    def student(self) -> np.ndarray:
        """Return (K, K) in [-1, 1]: correlations among the student's classes; NaN where one never varies."""
        return self._correlations()[: self.classes, : self.classes]

    @property
    def teacher(self) -> np.ndarray:
        """Return (K, K), as student."""
        return self._correlations()[self.classes :, self.classes :]

    @property
    def intra(self) -> np.ndarray:
        """Return (K,) in [-1, 1]: the correlation of the student's column with the teacher's for each class."""
        return self._correlations()[: self.classes, self.classes :].diagonal()

    @property
    def inter(self) -> np.ndarray:
        """Return (rows,) in [-1, 1]: the correlation of the student's row with the teacher's; NaN where one is
        constant."""
        return np.concatenate(self._inter)

    def _correlations(self) -> np.ndarray:
        deviations = np.sqrt(self._moments.diagonal())
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self._moments / np.outer(deviations, deviations)).clip(-1, 1)


def draw_relations(relations: Relations, names: Sequence[str], rows: str, file: Path, with_teacher: bool) -> None:
    """Draw the correlations among the classes of teacher and student, what differs, and DIST's two terms.

    Args:
        names: names of the K columns.
        rows: what a row is, in the plural: "pixels".
        file: the PNG to write; its folder is made.
        with_teacher: False: the student's matrix alone.
    """
    side = float(np.clip((0.4 if len(names) <= NUMBERS else 0.2) * len(names), 4.2, 12))
    what = f"{relations.activation} at temperature {relations.tau:g}, {relations.rows:,} {rows}"
    size = (side * 3.3, side + 4) if with_teacher else (side * 1.2, side + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    if with_teacher:
        figure.suptitle(f"What DIST preserves: Pearson correlations of class probabilities ({what})", fontsize=13)
        _compare(figure, relations, names, rows, side)
    else:
        figure.suptitle(f"Correlations among the student's class probabilities\n({what})", fontsize=11)
        image = _matrix(figure.subplots(), relations.student, names, "student", 1)
        figure.colorbar(image, shrink=0.8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)


def _compare(figure: Figure, relations: Relations, names: Sequence[str], rows: str, side: float) -> None:
    grid = figure.add_gridspec(2, 1, height_ratios=[side, 3])
    top, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    axes = top.subplots(1, 3)
    student, teacher = relations.student, relations.teacher
    change = student - teacher
    _matrix(axes[0], teacher, names, "teacher: class with class", 1)
    image = _matrix(axes[1], student, names, "student: class with class", 1)
    top.colorbar(image, ax=axes[:2], shrink=0.8, label="correlation")
    limit = max(float(np.nanmax(np.abs(change), initial=0)), 0.1)
    title = f"student − teacher, mean |difference| {_mean(np.abs(change[~np.eye(len(names), dtype=bool)])):.3f}"
    image = _matrix(axes[2], change, names, title, limit, "PuOr_r")
    top.colorbar(image, ax=axes[2], shrink=0.8)
    left, right = below.subplots(1, 2)
    intra, inter = relations.intra, relations.inter
    left.bar(range(len(names)), intra, color="#2563eb")
    left.set_xticks(range(len(names)), names, rotation=90 if _long(names) else 0, fontsize=_fontsize(names))
    left.set_ylim(min(0, np.nanmin(intra, initial=0)), 1)
    left.set_title(f"intra: each class over all {rows}, student with teacher; mean {_mean(intra):.3f}", fontsize=11)
    right.hist(inter[np.isfinite(inter)], bins=50, range=(-1, 1), color="#2563eb")
    right.set_yscale("log")
    right.set_ylabel(rows)
    right.set_title(f"inter: the classes of each row, student with teacher; mean {_mean(inter):.3f}", fontsize=11)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    below.supxlabel(
        "DIST's loss is temperature² · (beta · (1 − mean inter) + gamma · (1 − mean intra)). Where intra is 1 for all "
        "classes, the two matrices are the same.",
        fontsize=10,
    )


def _matrix(
    axis: Axes, values: np.ndarray, names: Sequence[str], title: str, limit: float, colors: str = "RdBu_r"
) -> AxesImage:
    axis.set_facecolor("#d4d4d4")  # NaN: a class that never varies
    image = axis.imshow(values, cmap=colors, vmin=-limit, vmax=limit)
    if len(names) <= NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                color = "white" if abs(value) > 0.6 * limit else "black"
                number = axis.text(column, row, f"{value:z.2f}", ha="center", va="center", fontsize=6.5, color=color)
                number.set_in_layout(False)  # it lies inside; to measure hundreds of them takes seconds
    axis.set_xticks(range(len(names)), names, rotation=90 if _long(names) else 0, fontsize=_fontsize(names))
    axis.set_yticks(range(len(names)), names, fontsize=_fontsize(names))
    axis.set_title(title, fontsize=11)
    return image


def _long(names: Sequence[str]) -> bool:
    return max(map(len, names)) > 3 or len(names) > 20


def _fontsize(names: Sequence[str]) -> float:
    return 9 if len(names) <= 30 else 6


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
