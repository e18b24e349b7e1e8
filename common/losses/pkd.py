"""PKD: the student's feature maps correlate with the teacher's, whatever their scale."""

from torch import Tensor, nn

from densedist.common.distributed import sum_over_processes
from densedist.common.losses.checks import prepare_features


class PKDLoss(nn.Module):
    """Pearson feature imitation, Cao et al., NeurIPS 2022, eq. 3: half the squared error of standardized maps.

    Each channel is standardized over images and places, to mean 0 and standard deviation 1; the loss is then
    1 - Pearson correlation, averaged over the channels.

    Args:
        eps: added to the standard deviations, above 0.
        sync: standardize over the images of all processes.
    """

    def __init__(self, eps: float = 1e-6, sync: bool = False) -> None:
        super().__init__()
        self.eps, self.sync = eps, sync

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: (N, C, H, W), any floating dtype; the gradient flows here.
            teacher: of the same shape.

        Returns:
            0-dim loss in [0, 2], float32 (float64 for float64 input).

        Raises:
            ValueError: shapes that differ, not four dimensions, a wrong dtype, an empty tensor.
        """
        student, teacher = prepare_features(student, teacher, dims=4)
        return self._mean((self._standardize(student) - self._standardize(teacher)).square()).mean() / 2

    def _standardize(self, x: Tensor) -> Tensor:
        centered = x - self._mean(x)
        variance = self._mean(centered.square())
        # The root of 0 has no gradient; a constant channel contributes none.
        constant = variance == 0
        deviation = variance.masked_fill(constant, 1).sqrt().masked_fill(constant, 0)
        return centered / (deviation + self.eps)

    def _mean(self, x: Tensor) -> Tensor:
        """Of each channel: (1, C, 1, 1)."""
        if not self.sync:
            return x.mean((0, 2, 3), keepdim=True)
        values = x.new_tensor(x.numel() // x.shape[1])
        return sum_over_processes(x.sum((0, 2, 3), keepdim=True)) / sum_over_processes(values)
