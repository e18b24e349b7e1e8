"""CrossKD: what the teacher's head makes of the student's features comes to what it makes of the teacher's."""

from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.distributed import sum_over_processes
from densedist.common.losses.box import giou_distance, same_type
from densedist.common.losses.channels import standardize_channels
from densedist.common.losses.checks import check_feature, check_not_negative, widen

EPS = 1e-6  # added to the deviation of a student's channel, as in the authors' code


class CrossHeadLoss(nn.Module):
    """Prediction mimicking of dense heads, Wang et al., CVPR 2024, as in the authors' code for RetinaNet.

    Classes by the quality focal loss with the power 1, |σ(s) - σ(t)| · BCE(s, σ(t)), and boxes by 1 - GIoU times the
    teacher's highest class probability, are summed over all anchors that count. Both sums are divided by the number of
    anchors that are objects by the labels, of each image 1 at least; an anchor that the labels leave open (its overlap
    lies between both thresholds, or it lies in the padding) does not count. On images without labels, of which the
    authors say nothing, all anchors count, and the sum of the teacher's highest probabilities stands for that number.

    Args:
        box: the factor on the boxes, 0 or more; the authors' is 1.
        sync: take the sums over the images of all processes.

    Raises:
        ValueError: a negative factor.
    """

    def __init__(self, box: float = 1.0, sync: bool = False) -> None:
        super().__init__()
        check_not_negative("box", box)
        self.box, self.sync = box, sync

    def extra_repr(self) -> str:
        return f"box={self.box}"

    def forward(self, student: Tensor, teacher: Tensor, *, target: Tensor) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student, teacher: (N · A, 4 + K), image by image, x0, y0, x1, y1 in pixels and the logits of K classes; the
                gradient flows to the student's.
            target: (N, A), for each image and anchor 1 where there is an object, 0 where there is none, below 0 where
                labels leave it open; an image with nothing else has no labels.

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
        if target.dim() != 2 or target.numel() != len(student):
            raise ValueError(f"target: got shape {tuple(target.shape)}, want (images, anchors) of {len(student)} rows")
        student, teacher = same_type(student, teacher)
        ours, theirs = student[:, 4:], teacher[:, 4:].sigmoid()
        sure = theirs.amax(1).view_as(target)
        known = target >= 0
        labeled = known.any(1, keepdim=True)
        objects = target.clamp(min=0).to(sure.dtype).where(labeled, sure).sum(1).clamp(min=1).sum()
        focus = (ours.sigmoid() - theirs).abs()
        error = (focus * F.binary_cross_entropy_with_logits(ours, theirs, reduction="none")).sum(1)
        if self.box:
            error = error + self.box * sure.flatten() * giou_distance(student[:, :4], teacher[:, :4])
        total = error.where((known | ~labeled).flatten(), 0).sum()
        if self.sync:
            total, objects = sum_over_processes(total), sum_over_processes(objects)
        return total / objects


def align_channels(student: Tensor, teacher: Tensor, sync: bool = False) -> Tensor:
    """Give the student's features the mean and the deviation that each channel has in the teacher, so that the
    teacher's next layers, which know no others, can read them: the authors' align_scale.

    Args:
        student, teacher: (N, C, H, W); the gradient flows to the student's, through its own mean and deviation, too.
        sync: of both over the images of all processes.

    Returns:
        (N, C, H, W), float32 at least. A constant channel of the student's is the teacher's mean, without a gradient.
    """
    ours, theirs = (standardize_channels(widen(x), EPS, sync, correction=1) for x in (student, teacher.detach()))
    return ours.standardized * theirs.deviation + theirs.mean
