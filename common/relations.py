"""Correlations among predicted class probabilities: what DIST compares between student and teacher."""

import numpy as np
import torch
from torch import Tensor

from common.losses.logits import Activation


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
        # Of the student's and the teacher's columns side by side, (2K,) and (2K, 2K), centred.
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
        centred = both - mean
        # Chan, Golub and LeVeque, 1979: no cancellation, however many images there are.
        shift, rows = mean.cpu().numpy() - self._mean, self.rows + len(both)
        self._moments += (centred.T @ centred).cpu().numpy() + np.outer(shift, shift) * (self.rows * len(both) / rows)
        self._mean += shift * (len(both) / rows)
        self.rows = rows
        p, q = p - p.mean(1, keepdim=True), q - q.mean(1, keepdim=True)
        self._inter.append(((p * q).sum(1) / (p.norm(dim=1) * q.norm(dim=1))).cpu().numpy())

    def _probabilities(self, logits: Tensor) -> Tensor:
        scaled = logits.double() / self.tau
        return scaled.softmax(1) if self.activation == "softmax" else scaled.sigmoid()

    @property
    def student(self) -> np.ndarray:
        """(K, K) in [-1, 1]: correlations among the student's classes; NaN where one never varies."""
        return self._correlations()[: self.classes, : self.classes]

    @property
    def teacher(self) -> np.ndarray:
        """(K, K), as student."""
        return self._correlations()[self.classes :, self.classes :]

    @property
    def intra(self) -> np.ndarray:
        """(K,) in [-1, 1]: of each class's column, the student's with the teacher's."""
        return self._correlations()[: self.classes, self.classes :].diagonal()

    @property
    def inter(self) -> np.ndarray:
        """(rows,) in [-1, 1]: of each row, the student's with the teacher's; NaN where one is flat."""
        return np.concatenate(self._inter)

    def _correlations(self) -> np.ndarray:
        deviations = np.sqrt(self._moments.diagonal())
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self._moments / np.outer(deviations, deviations)).clip(-1, 1)
