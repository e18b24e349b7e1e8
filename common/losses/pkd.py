"""PKD: the student's feature maps correlate with the teacher's, whatever their scale."""

from torch import Tensor, nn

from densedist.common.distributed import sum_over_processes
from densedist.common.losses.channels import standardize_channels
from densedist.common.losses.checks import check_inside, prepare_features


class PKDLoss(nn.Module):
    """Pearson feature imitation, Cao et al., NeurIPS 2022, eq. 3: half the squared error of standardized maps.

    Each channel is standardized over images and places, to mean 0 and standard deviation 1; the loss is then
    1 - Pearson correlation, averaged over the channels. A constant channel correlates with nothing: it counts 1/2 where
    the other side's is not constant, 0 where it is, without a gradient.

    Args:
        eps: added to the standard deviations, above 0.
        sync: standardize over the images of all processes.
    """

    def __init__(self, eps: float = 1e-6, sync: bool = False) -> None:
        super().__init__()
        self.eps, self.sync = eps, sync

    def forward(self, student: Tensor, teacher: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: (N, C, H, W), any floating dtype; the gradient flows here.
            teacher: of the same shape.
            inside: bool (N, H, W), False in the padding of smaller images, which does not count; None = no padding.

        Returns:
            0-dim loss in [0, 2], float32 (float64 for float64 input).

        Raises:
            ValueError: shapes that differ, not four dimensions, a wrong dtype, an empty tensor.
        """
        student, teacher = prepare_features(student, teacher, dims=4)
        check_inside(inside, student)
        sides = (standardize_channels(x, self.eps, self.sync, inside=inside) for x in (student, teacher))
        ours, theirs = (side.standardized for side in sides)
        error = (ours - theirs).square().sum((0, 2, 3))
        values = error.new_full((), student[:, 0].numel()) if inside is None else inside.sum().to(error.dtype)
        if self.sync:
            error, values = sum_over_processes(error), sum_over_processes(values)
        return (error / values).mean() / 2
