"""Mimic: the student's features equal the teacher's."""

from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.losses.checks import check_inside, prepare_features


class MimicLoss(nn.Module):
    """Mean squared error (FitNets, Romero et al., ICLR 2015), as in the "DIST + mimic" rows of the DIST paper."""

    def forward(self, student: Tensor, teacher: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: features of any shape and floating dtype; the gradient flows here.
            teacher: features of the same shape.
            inside: of (N, C, H, W) bool (N, H, W), False in the padding of smaller images, which does not count; None =
                no padding.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 features).

        Raises:
            ValueError: shapes that differ, a wrong dtype, an empty tensor.
        """
        student, teacher = prepare_features(student, teacher)
        check_inside(inside, student)
        if inside is None:
            return F.mse_loss(student, teacher)
        error = (student - teacher).where(inside[:, None], 0).square()
        return error.sum() / (inside.sum() * student.shape[1])
