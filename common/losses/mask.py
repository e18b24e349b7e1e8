"""Mask distillation: the pixels of RoIs, as the teacher's mask head sees them."""

from typing import Literal

from torch import Tensor, nn

from densedist.common.losses.dist.loss import DISTLoss
from densedist.common.losses.kd import KDLoss

Kind = Literal["dist", "kd"]
KINDS = ("dist", "kd")


class MaskLoss(nn.Module):
    """DIST or KD on mask logits, each pixel a sigmoid (He et al., ICCV 2017, have them).

    "dist": a row for each RoI, a column for each pixel of it; so a mask keeps its correlations over its pixels, and a
    pixel those over the masks (Huang et al., NeurIPS 2022, eq. 9, with relations of masks in place of classes). "kd":
    KL(teacher || student) · tau², mean over all pixels.

    Args:
        kind: "dist" or "kd".
        tau: temperature, above 0.
        sync: relations, or the mean, over the RoIs of all processes.

    Raises:
        ValueError: an unknown kind or a tau not above 0.
    """

    def __init__(self, kind: Kind = "dist", tau: float = 1.0, sync: bool = False) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind: got {kind!r}, want one of {', '.join(KINDS)}")
        self.kind, self.sync = kind, sync
        make = {"dist": DISTLoss, "kd": KDLoss}[kind]
        self.loss = make(tau=tau, activation="sigmoid", sync=sync)

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: logits (R, 1, M, M), any floating dtype; the gradient flows here.
            teacher: logits of the same shape.
            valid: bool (R,), True = the RoI counts; None = all count. With it there may be no RoI.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 logits).

        Raises:
            ValueError: shapes that differ, a wrong dtype, no RoI and no mask.
        """
        if self.kind == "dist":
            return self.loss(student.flatten(1), teacher.flatten(1), valid)
        pixels = None if valid is None else valid[:, None, None].expand(-1, *student.shape[2:])
        return self.loss(student, teacher, pixels)
