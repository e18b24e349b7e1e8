"""CWD: the student looks, channel by channel, where the teacher looks."""

import torch
from torch import Tensor, nn

from densedist.common.losses.checks import check_inside, check_positive, prepare_features


class CWDLoss(nn.Module):
    """Channel-wise distillation, Shu et al., ICCV 2021, eq. 4: tau² · KL(teacher || student) over the places.

    Each channel, divided by tau, becomes a distribution over its H·W places by softmax; the divergence is
    averaged over images and channels. For feature maps or dense logits.

    Args:
        tau: temperature, above 0; the paper's is 4 for features and 3 for logits.

    Raises:
        ValueError: for a tau not above 0.
    """

    def __init__(self, tau: float = 4.0) -> None:
        super().__init__()
        check_positive("tau", tau)
        self.tau = tau

    def extra_repr(self) -> str:
        return f"tau={self.tau}"

    def forward(self, student: Tensor, teacher: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: (N, C, H, W), any floating dtype; the gradient flows here.
            teacher: of the same shape.
            inside: bool (N, H, W), False in the padding of smaller images, which does not count; None = no padding.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 input).

        Raises:
            ValueError: shapes that differ, not four dimensions, a wrong dtype, an empty tensor.
        """
        student, teacher = prepare_features(student, teacher, dims=4)
        check_inside(inside, student)
        by_place = [x.flatten(2) / self.tau for x in (student, teacher)]
        if inside is not None:  # not minus infinity, of which there is no difference
            padding = ~inside.flatten(1)[:, None]
            by_place = [x.masked_fill(padding, torch.finfo(x.dtype).min / 2) for x in by_place]
        ours, theirs = (x.log_softmax(2) for x in by_place)
        # Σ p·(log p - log q) + q - p: the same, as p and q sum to 1, but its terms are small where p and q are close,
        # so that a small loss keeps its digits.
        p, q = theirs.exp(), ours.exp()
        divergence = (p * (theirs - ours) + (q - p)).sum()
        return self.tau**2 * divergence / (student.shape[0] * student.shape[1])
