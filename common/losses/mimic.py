"""Mimic: the student's features equal the teacher's."""

from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.losses.checks import prepare_features


class MimicLoss(nn.Module):
    """Mean squared error (FitNets, Romero et al., ICLR 2015), as in the "DIST + mimic" rows of the DIST paper."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: features of any shape and floating dtype; the gradient flows here.
            teacher: features of the same shape.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 features).

        Raises:
            ValueError: shapes that differ, a wrong dtype, an empty tensor.
        """
        return F.mse_loss(*prepare_features(student, teacher))
