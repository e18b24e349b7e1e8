"""CrossKD: what the teacher's head makes of the student's features comes to what it makes of the teacher's."""

from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.distributed import sum_over_processes
from densedist.common.losses.box import same_type
from densedist.common.losses.checks import check_feature, check_not_negative
from densedist.common.losses.giou import giou_distance


class CrossHeadLoss(nn.Module):
    """Wang et al., CVPR 2024: prediction mimicking of dense heads, behind the teacher's last layers on both sides.

    Classes by the quality focal loss (Li et al., NeurIPS 2020, eq. 5), |σ(s) - σ(t)|² · BCE(s, σ(t)), summed over all;
    boxes by 1 - GIoU, weighted by the teacher's highest class probability. Both sums are divided by that of these
    probabilities, or by 1 where it is less.

    Args:
        box: the factor on the boxes, 0 or more.
        sync: take the sums over the anchors of all processes.

    Raises:
        ValueError: a negative factor.
    """

    def __init__(self, box: float = 1.0, sync: bool = False) -> None:
        super().__init__()
        check_not_negative("box", box)
        self.box, self.sync = box, sync

    def extra_repr(self) -> str:
        return f"box={self.box}"

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student, teacher: (R, 4 + K), x0, y0, x1, y1 in pixels and the logits of K classes; the gradient flows to
                the student's.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 input).

        Raises:
            ValueError: shapes that differ, fewer than five columns, a wrong dtype, no row.
        """
        for name, rows in (("student", student), ("teacher", teacher)):
            check_feature(name, rows, 2)
            if rows.shape[1] < 5:
                raise ValueError(f"{name}: got {rows.shape[1]} columns, {tuple(rows.shape)}, want 5 or more")
        if student.shape != teacher.shape:
            raise ValueError(f"teacher: got shape {tuple(teacher.shape)}, want the student's {tuple(student.shape)}")
        student, teacher = same_type(student, teacher)
        ours, theirs = student[:, 4:], teacher[:, 4:].sigmoid()
        sure = theirs.amax(1)
        focus = (ours.sigmoid() - theirs).square()
        total = (focus * F.binary_cross_entropy_with_logits(ours, theirs, reduction="none")).sum()
        if self.box:
            apart = giou_distance(student[:, :4], teacher[:, :4])
            total = total + self.box * (sure * apart).sum()
        count = sure.sum()
        if self.sync:
            total, count = sum_over_processes(total), sum_over_processes(count)
        return total / count.clamp(min=1)
