"""MGD: from a part of the student's features the teacher's are generated."""

from torch import Tensor, nn

from densedist.common.losses.checks import check_inside, prepare_features


class MGDLoss(nn.Module):
    """Masked generative distillation, Yang et al., ECCV 2022, eq. 4: squared error, summed, for each image.

    The student's features come through a Generator (common/distill/adapters.py). As it is a sum over channels
    and places, weights are small: the paper's are 2e-5 for detectors, with maps of 256 channels.
    """

    def forward(self, student: Tensor, teacher: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: (N, C, H, W), generated, any floating dtype; the gradient flows here.
            teacher: of the same shape.
            inside: bool (N, H, W), False in the padding of smaller images, which does not count; None = no padding.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 input).

        Raises:
            ValueError: shapes that differ, not four dimensions, a wrong dtype, an empty tensor.
        """
        student, teacher = prepare_features(student, teacher, dims=4)
        check_inside(inside, student)
        error = student - teacher
        if inside is not None:
            error = error.where(inside[:, None], 0)
        return error.square().sum() / len(student)
