"""Af-DCD: what a student generates is the teacher's feature of the same place and channels, and no other near it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.losses.checks import check_not_negative, check_positive, prepare_features
from densedist.common.losses.mgd import MGDLoss


class AFDCDLoss(nn.Module):
    """Augmentation-free dense contrastive distillation, Fan et al., NeurIPS 2023, as in the authors' code.

    The student's features come through a Generator (common/distill/adapters.py), as MGD's. To their squared error,
    summed for each image (times reconstruction), a contrast is added (times contrast): both maps are pooled by their
    maxima and cut into patches; at each place the channels fall into groups of neighbors. A group of the student at a
    place belongs to the same group of the teacher at that place, and to none of the other groups at the places of
    that patch: the cross entropy of this choice, with minus the L1 distances over tau as logits, is averaged over
    images and places and summed over groups. The same group at the other places of a patch counts on neither side.

    Args:
        contrast, reconstruction: weights; the authors' are 1e-3 and 4e-5.
        tau: temperature, above 0.
        groups: of channels, 2 or more; has to divide their number.
        patch: its side in places of the pooled map, 1 or more; a map that is smaller is one patch. Places beyond the
            last whole patch are left out, as the authors leave them out for CamVid.
        pool: side of the squares that are pooled first, 1 or more; 1 = none.

    Raises:
        ValueError: an argument beyond its values.
    """

    def __init__(
        self,
        contrast: float = 1e-3,
        reconstruction: float = 4e-5,
        tau: float = 0.07,
        groups: int = 16,
        patch: int = 4,
        pool: int = 4,
    ) -> None:
        super().__init__()
        check_not_negative("contrast", contrast)
        check_not_negative("reconstruction", reconstruction)
        for name, value in (("tau", tau), ("patch", patch), ("pool", pool)):
            check_positive(name, value)
        if groups < 2:
            raise ValueError(f"groups: got {groups}, want 2 or more")
        self.contrast, self.reconstruction, self.tau = contrast, reconstruction, tau
        self.groups, self.patch, self.pool = groups, patch, pool

    def extra_repr(self) -> str:
        weights = f"contrast={self.contrast}, reconstruction={self.reconstruction}"
        return f"{weights}, tau={self.tau}, groups={self.groups}, patch={self.patch}, pool={self.pool}"

    def forward(self, student: Tensor, teacher: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: (N, C, H, W), generated, any floating dtype; the gradient flows here.
            teacher: of the same shape.
            inside: bool (N, H, W), False in the padding of smaller images, which does not count, nor
                do patches that have some of it; None = no padding.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 input).

        Raises:
            ValueError: shapes that differ, not four dimensions, a wrong dtype, an empty tensor, groups that do not
                divide the channels.
        """
        student, teacher = prepare_features(student, teacher, dims=4)
        if student.shape[1] % self.groups:
            raise ValueError(f"student: got {student.shape[1]} channels, want a multiple of the {self.groups} groups")
        error = self.reconstruction * MGDLoss()(student, teacher, inside)
        return error + self.contrast * self._contrast(student, teacher, inside)

    def _contrast(self, student: Tensor, teacher: Tensor, inside: Tensor | None) -> Tensor:
        ours, theirs = (self._candidates(self._pooled(x, inside)) for x in (student, teacher))
        logits = -torch.cdist(ours, theirs, p=1) / self.tau  # (patches, places · groups, places · groups)
        group = torch.arange(logits.shape[1], device=logits.device) % self.groups
        other_place = (group[:, None] == group).fill_diagonal_(False)
        logits = logits.masked_fill(other_place, -torch.inf)
        chosen = logits.diagonal(dim1=1, dim2=2) - logits.logsumexp(2)
        if inside is None:
            return -chosen.mean() * self.groups
        marks = self._pooled(inside[:, None].to(student.dtype), None)
        whole = self._patches(marks).amin((1, 2)) > 0  # (patches,)
        return -chosen.where(whole[:, None], 0).sum() / (whole.sum().clamp(min=1) * chosen.shape[1]) * self.groups

    def _pooled(self, features: Tensor, inside: Tensor | None) -> Tensor:
        """Return the maxima of squares over places that are no padding; 0 where all are."""
        if inside is not None:
            features = features.masked_fill(~inside[:, None], -torch.inf)
        pooled = F.max_pool2d(features, self.pool, ceil_mode=True) if self.pool > 1 else features
        return pooled if inside is None else pooled.masked_fill(pooled == -torch.inf, 0)

    def _patches(self, pooled: Tensor) -> Tensor:
        """Cut maps (N, C, H, W) into (patches of all images, places, C)."""
        height, width = (min(self.patch, side) for side in pooled.shape[2:])
        patches = pooled.unfold(2, height, height).unfold(3, width, width)  # (N, C, rows, columns, height, width)
        return patches.permute(0, 2, 3, 4, 5, 1).flatten(0, 2).flatten(1, 2)

    def _candidates(self, pooled: Tensor) -> Tensor:
        """Cut maps (N, C, H, W) into (patches, places · groups, C / groups), the groups of a place side by side."""
        return self._patches(pooled).unflatten(2, (self.groups, -1)).flatten(1, 2)
