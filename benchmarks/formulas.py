"""The losses as their authors publish them, written straight down in PyTorch: what ours are measured against."""

import torch
from torch import Tensor
from torch.nn import functional as F

from densedist.common.losses.checks import Activation


def dist(student: Tensor, teacher: Tensor, activation: Activation = "softmax", eps: float = 1e-8) -> Tensor:
    """Huang et al., NeurIPS 2022, eqs. 7 to 10, with weights and temperature 1, for (R, C) or (N, C, *spatial)."""
    p, q = (_rows(x).softmax(1) if activation == "softmax" else _rows(x).sigmoid() for x in (student, teacher))
    return 2 - _pearson(p, q, eps).mean() - _pearson(p.T, q.T, eps).mean()


def rkd(student: Tensor, teacher: Tensor, distance_weight: float = 25.0, angle_weight: float = 50.0) -> Tensor:
    """Park et al., CVPR 2019, eqs. 5 to 8, of (N, D) samples brought to length 1."""
    student, teacher = F.normalize(student), F.normalize(teacher)
    distance = F.smooth_l1_loss(_distances(student), _distances(teacher))
    return distance_weight * distance + angle_weight * F.smooth_l1_loss(_cosines(student), _cosines(teacher))


def _rows(logits: Tensor) -> Tensor:
    return logits.movedim(1, -1).reshape(-1, logits.shape[1])


def _pearson(a: Tensor, b: Tensor, eps: float) -> Tensor:
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + eps)


def _distances(x: Tensor) -> Tensor:
    square = (x.unsqueeze(0) - x.unsqueeze(1)).square().sum(2)
    zero = square == 0
    distance = square.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)  # the root has no gradient at 0
    return distance / distance[~zero].mean()


def _cosines(x: Tensor) -> Tensor:
    directions = F.normalize(x.unsqueeze(0) - x.unsqueeze(1), dim=2)
    return torch.bmm(directions, directions.transpose(1, 2))
