"""The frozen segmentation teacher: its maps for a batch, at the student's places."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from densedist.common.distill.classes import ClassMap
from densedist.common.distill.teacher import Maps, Pending, Samples, Teacher
from densedist.seg.networks.dense import LOGITS, DenseModel
from densedist.seg.networks.resampling import Grid, resize_at
from densedist.seg.teacher.adapting import KEPT_MASS


class SegTeacher(Teacher[DenseModel]):
    """A frozen network.

    Args:
        model, flip_channels, precision, average: see common/distill/teacher.py.
        classes: which of the student's classes the model knows, where its own are others; None = all.
        kept_mass: a pixel counts where these have at least this much of the model's probability.
    """

    def __init__(
        self,
        model: DenseModel,
        flip_channels: bool = False,
        precision: torch.dtype = torch.float32,
        classes: ClassMap | None = None,
        kept_mass: float = 0.0,
        average: nn.Module | None = None,
    ) -> None:
        super().__init__(model, flip_channels, precision, average)
        self.classes, self.kept_mass = classes, kept_mass

    def begin(self, samples: Samples) -> "SegPending":
        return SegPending(self, samples)

    def live_maps(self, images: Sequence[Tensor]) -> Maps:
        """Return the network's maps of raw images (3, H, W), 0 to 255, in the student's channel order."""
        batch = self.model.preprocess(self.in_channel_order(images)).to(self.precision)
        with self.alone():
            return self.model(batch)

    def output(self, images: Sequence[Tensor], student: Mapping[str, Tensor], size: Sequence[int]) -> Maps:
        """Return the same for those of the student's maps that the teacher has, at the student's places: see
        SegPending.at."""
        maps, grid = self.live_maps(images), self.grid(images)
        return {n: resize_at(maps[n], x.shape[2:], grid, size) for n, x in student.items() if n in maps}

    def grid(self, images: Sequence[Tensor]) -> Grid:
        """Return how the network's maps lie on the batch of these images."""
        return Grid(self.model.padded_size(images), self.model.align_corners)


class SegPending(Pending):
    """A batch that a network is asked about: see at()."""

    teacher: SegTeacher

    def at(self, student: Mapping[str, Tensor], size: Sequence[int]) -> tuple[Maps, Maps]:
        """Return the teacher's maps, those that the student has, at the student's places; and for class logits of which
        not all places count a mask of those that do, bool (N, h, w).

        Args:
            student: maps (N, C, h, w) by name, as of seg.networks.dense.DenseModel.
            size: height and width of the student's batch in pixels; the teacher may pad its own otherwise.
        """
        grid = self.teacher.grid([sample["image"] for sample in self.samples])
        wanted = self.wanted_sizes(student)
        maps = {
            name: resize_at(self.maps[name], places, grid, size) for name, places in wanted.items() if name in self.maps
        }
        return self.without_mass(maps, {})

    def wanted_sizes(self, student: Mapping[str, Tensor]) -> dict[str, Sequence[int]]:
        """Return height and width of the maps that are wanted, by name."""
        sizes: dict[str, Sequence[int]] = {name: x.shape[2:] for name, x in student.items()}
        if self.teacher.kept_mass > 0 and "cls_logits" in student:
            sizes[KEPT_MASS] = sizes["cls_logits"]
        return sizes

    def without_mass(self, maps: Maps, valid: Maps) -> tuple[Maps, Maps]:
        """Return maps without KEPT_MASS, and which places count: of class logits only those that have enough of it.

        Args:
            maps: the teacher's, by name.
            valid: for maps by name bool (N, h, w), the places that there are; without an entry all.
        """
        kept, places = ({name: x for name, x in each.items() if name != KEPT_MASS} for each in (maps, valid))
        if KEPT_MASS not in maps:
            return kept, places
        enough = maps[KEPT_MASS][:, 0] >= self.teacher.kept_mass
        masked = [name for name in LOGITS if name in kept and kept[name].shape[2:] == enough.shape[1:]]
        return kept, places | {name: enough & places[name] if name in places else enough for name in masked}
