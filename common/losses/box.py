"""Box distillation: the student puts boxes where the teacher puts them, as far as the teacher sees an object there."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.distributed import sum_over_processes
from densedist.common.losses.checks import check_feature, check_not_negative, widen

Distance = Literal["giou", "smooth_l1"]
DISTANCES = ("giou", "smooth_l1")
AREA_EPS = 1e-7  # torchvision's: a box without area gives no NaN


class BoxLoss(nn.Module):
    """sum(p · distance) / max(sum(p), 1) over rows, p = sigmoid(the teacher's logit of an object).

    Boxes of a teacher are a target of Chen et al., NeurIPS 2017; that the teacher says where they count, and for which
    class, is ALDI's (Kay et al., 2024). The loss is neither's: ALDI takes the L1 distance of regression targets on RoIs
    for whose class the teacher finds no background likelier, each with weight 1, and divides by the number of all RoIs.
    Here a row weighs as much as the teacher is sure of an object, and the sum of the weights, which divides, is the
    number of rows that the teacher takes for objects; below one row the loss fades out.

    Args:
        distance: "giou", 1 - generalized IoU (Rezatofighi et al., CVPR 2019) of boxes in pixels, 0 to 2; "smooth_l1"
            (Girshick, ICCV 2015) of regression targets, summed over the four.
        beta: of smooth L1, where it turns from square to straight, 0 or more; 0 = L1.
        sync: take the mean over the rows of all processes.

    Raises:
        ValueError: an unknown distance or a beta below 0.
    """

    def __init__(self, distance: Distance = "giou", beta: float = 0.0, sync: bool = False) -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise ValueError(f"distance: got {distance!r}, want one of {', '.join(DISTANCES)}")
        check_not_negative("beta", beta)
        self.distance, self.beta, self.sync = distance, beta, sync

    def extra_repr(self) -> str:
        return f"distance={self.distance!r}, beta={self.beta}"

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: (R, 4 or 5), x0, y0, x1, y1 or four regression targets first; the gradient flows here.
            teacher: (R, 5), the same and the logit of an object.
            valid: bool (R,), True = the row counts; None = all count. With it there may be no row.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 input).

        Raises:
            ValueError: wrong shapes, a wrong dtype, no row.
        """
        student, teacher = prepare_boxes(student, teacher, valid=valid)
        weight = teacher[:, 4].sigmoid()
        if valid is not None:
            weight = weight * valid
        total, rows = (weight * self._distance(student[:, :4], teacher[:, :4])).sum(), weight.sum()
        if self.sync:
            total, rows = sum_over_processes(total), sum_over_processes(rows)
        return total / rows.clamp(min=1)

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.distance == "giou":
            return giou_distance(student, teacher)
        return F.smooth_l1_loss(student, teacher, reduction="none", beta=self.beta).sum(1)


class ProposalLoss(nn.Module):
    """What a region proposal network learns of its anchors: L_objectness + box · BoxLoss.

    L_objectness is the divergence of the two Bernoulli distributions, KL(teacher || student), half of it averaged over
    anchors with an object, half over those without, each anchor being both by the teacher's probability:
    (sum(p · KL) / max(sum(p), 1) + sum((1 - p) · KL) / max(sum(1 - p), 1)) / 2. Detectron2 balances by sampling, and so
    does ALDI (Kay et al., 2024), whose cross entropy and L1 distance of regression targets are on the anchors that it
    samples by the teacher's boxes; this loss has its aim, not its form.

    Args:
        box: the factor on the boxes, 0 or more.
        sync: take the means over the anchors of all processes.

    Raises:
        ValueError: a negative factor.
    """

    def __init__(self, box: float = 1.0, sync: bool = False) -> None:
        super().__init__()
        check_not_negative("box", box)
        self.box, self.sync = box, sync
        self.boxes = BoxLoss("giou", sync=sync)

    def extra_repr(self) -> str:
        return f"box={self.box}"

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student, teacher: (R, 5), x0, y0, x1, y1 in pixels and the logit of an object; the gradient flows to the
                student's.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 input).

        Raises:
            ValueError: wrong shapes, a wrong dtype, no row.
        """
        student, teacher = prepare_boxes(student, teacher, columns=(5,))
        ours, theirs = student[:, 4], teacher[:, 4]
        weights = torch.stack([theirs.sigmoid(), (-theirs).sigmoid()])
        logs = [(F.logsigmoid(sign * ours), F.logsigmoid(sign * theirs)) for sign in (1, -1)]
        divergence = torch.stack([F.kl_div(s, t, reduction="none", log_target=True) for s, t in logs]).sum(0)
        sums, counts = (weights * divergence).sum(1), weights.sum(1)
        if self.sync:
            sums, counts = sum_over_processes(sums), sum_over_processes(counts)
        objectness = (sums / counts.clamp(min=1)).mean()
        return objectness + self.box * self.boxes(student, teacher) if self.box else objectness


def prepare_boxes(
    student: Tensor, teacher: Tensor, columns: tuple[int, ...] = (4, 5), valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Check both sides' rows, and return them in the wider of their types, float32 at least, the teacher's detached.

    Args:
        columns: that the student's rows may have.
        valid: the mask that comes with them.

    Raises:
        ValueError: naming the argument, what was seen and what is wanted.
    """
    for name, rows, allowed in (("student", student, columns), ("teacher", teacher, (5,))):
        check_feature(name, rows, 2, valid)
        if rows.shape[1] not in allowed:
            wanted = " or ".join(map(str, allowed))
            raise ValueError(f"{name}: got {rows.shape[1]} columns, {tuple(rows.shape)}, want {wanted}")
    if len(student) != len(teacher):
        raise ValueError(f"teacher: got {len(teacher)} rows, want the student's {len(student)}")
    return same_type(student, teacher)


def same_type(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the wider of their types, float32 at least, the teacher's detached."""
    student, teacher = widen(student), widen(teacher.detach())
    dtype = torch.promote_types(student.dtype, teacher.dtype)
    return student.to(dtype), teacher.to(dtype)


def giou_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 - generalized IoU (Rezatofighi et al., CVPR 2019), 0 to 2, of each pair.

    The values and gradients of torchvision.ops.generalized_box_iou_loss, which picks the pairs that meet by their
    numbers, so that a GPU is waited for in every step.

    Args:
        first, second: (R, 4), x0, y0, x1, y1.

    Returns:
        (R,)
    """
    common = _area(torch.max(first[:, :2], second[:, :2]), torch.min(first[:, 2:], second[:, 2:]))
    around = _area(torch.min(first[:, :2], second[:, :2]), torch.max(first[:, 2:], second[:, 2:]))
    union = _area(first[:, :2], first[:, 2:]) + _area(second[:, :2], second[:, 2:]) - common
    return 1 - common / (union + AREA_EPS) + (around - union) / (around + AREA_EPS)


def _area(low: Tensor, high: Tensor) -> Tensor:
    width, height = (high - low).clamp(min=0).unbind(1)
    return width * height
