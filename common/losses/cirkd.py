"""CIRKD: each pixel resembles the pixels of all images of the batch as it does in the teacher's eyes."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.distributed import gather_from_processes, sum_over_processes
from densedist.common.losses.checks import check_feature, check_inside, check_positive, widen

FAR_BELOW = -1e4  # its exponential is 0, and its differences are numbers


class CIRKDLoss(nn.Module):
    """Cross-image relational distillation within a batch, Yang et al., CVPR 2022, pixel to pixel.

    The cosines of each place of image a with all places of image b, divided by tau, become a distribution by softmax;
    KL(teacher || student) is averaged over the places of a and over all pairs a, b, each image with itself included.
    As in the authors' code, places of large maps are averaged first, and there is no factor tau². Left out of CIRKD:
    the relations to a memory of pixels and regions of earlier batches.

    Args:
        tau: temperature, above 0; the authors' is 0.1.
        places: an image of more is averaged over squares, the smallest that leave at most so many, as memory grows
            with the square of images times places; 1 or more.
        sync: take the pairs of the images of all processes.

    Raises:
        ValueError: for a tau not above 0 or places below 1.
    """

    def __init__(self, tau: float = 0.1, places: int = 512, sync: bool = False) -> None:
        super().__init__()
        check_positive("tau", tau)
        check_positive("places", places)
        self.tau, self.places, self.sync = tau, places, sync

    def extra_repr(self) -> str:
        return f"tau={self.tau}, places={self.places}"

    def forward(self, student: Tensor, teacher: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: (N, C_s, H, W), any floating dtype; the gradient flows here.
            teacher: (N, C_t, H, W).
            inside: bool (N, H, W), False in the padding of smaller images, which does not count; None = no padding.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 input).

        Raises:
            ValueError: other images or places, not four dimensions, a wrong dtype, an empty tensor.
        """
        for name, feature in (("student", student), ("teacher", teacher)):
            check_feature(name, feature, 4)
        if _images_and_places(student) != _images_and_places(teacher):
            seen, wanted = _images_and_places(teacher), _images_and_places(student)
            raise ValueError(f"teacher: got images and places {seen}, want the student's {wanted}")
        check_inside(inside, student)
        with torch.autocast(student.device.type, enabled=False):
            sides = [self._embeddings(x, inside) for x in (widen(student), widen(teacher.detach()))]
            counts = self._counts(student, inside)  # (N, places)
            sizes = [sides[0].shape[1]] * len(student)  # the places of each image
            others, all_counts = [x.flatten(0, 1) for x in sides], counts.flatten()
            if self.sync:
                others = [gather_from_processes(x) for x in others]
                all_counts = gather_from_processes(all_counts.long()).bool()
                # The images of another process may be of another size.
                sizes = gather_from_processes(torch.tensor(sizes, device=student.device)).tolist()
            # By image on this process, the cosines with all places of all images.
            ours, theirs = ([image @ places.T for image in x] for x, places in zip(sides, others, strict=True))
            each = zip(ours, theirs, counts, strict=True)
            total = torch.stack([self._divergence(s, t, sizes, rows, all_counts) for s, t, rows in each]).sum()
        return (sum_over_processes(total) if self.sync else total) / len(sizes) ** 2

    def _embeddings(self, features: Tensor, inside: Tensor | None) -> Tensor:
        """Return maps (N, C, H, W) as (N, places, C), each of length 1; of length 0, as padding, it has no gradient."""
        if inside is not None:
            features = features.where(inside[:, None], 0)
        places = _means(features, self.places).flatten(2).transpose(1, 2)
        # It has no direction, and its gradient would be divided by normalize's 1e-12.
        return F.normalize(places.masked_fill((places == 0).all(2, keepdim=True), 0), dim=2)

    def _counts(self, features: Tensor, inside: Tensor | None) -> Tensor:
        """Return which places of _embeddings are not padding alone: (N, places)."""
        if inside is None:
            inside = features.new_ones(_images_and_places(features), dtype=torch.bool)
        return _means(inside[:, None].float(), self.places).flatten(1) > 0

    def _divergence(self, student: Tensor, teacher: Tensor, sizes: list[int], rows: Tensor, columns: Tensor) -> Tensor:
        """Return the divergence of cosines (places, all places): means over the places, summed over all images.

        Args:
            rows, columns: which places count.
        """
        parts = zip(student.split(sizes, 1), teacher.split(sizes, 1), columns.split(sizes), strict=True)
        logs = [[(x / self.tau).masked_fill(~kept, FAR_BELOW).log_softmax(1) for x in (s, t)] for s, t, kept in parts]
        apart = [F.kl_div(s, t, reduction="none", log_target=True) for s, t in logs]
        return torch.stack([x.where(rows[:, None], 0).sum() / rows.sum() for x in apart]).sum()


def _means(features: Tensor, places: int) -> Tensor:
    """Return the means of maps (N, C, H, W) over the smallest squares that leave at most so many places."""
    side = _side(features.shape[2], features.shape[3], places)
    return F.avg_pool2d(features, side, ceil_mode=True) if side > 1 else features


def _images_and_places(features: Tensor) -> tuple[int, ...]:
    return (len(features), *features.shape[2:])


def _side(height: int, width: int, places: int) -> int:
    """Return the side of the smallest squares that leave at most so many places."""
    side = 1
    while math.ceil(height / side) * math.ceil(width / side) > places:
        side += 1
    return side
