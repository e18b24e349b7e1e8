"""The teacher's logits for whole training images, kept on disk: it costs nothing per step.

It sees each training image once, whole and as it lies there. In training its logits are looked
up where the student's pixels come from, whatever scale, crop, padding and mirror image the student sees.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.cache.arrays import KEY, About, Arrays
from densedist.common.cache.filling import cache_file, fill
from densedist.common.data.headers import read_header
from densedist.common.data.sides import TRAINED
from densedist.common.errors import UserError
from densedist.common.fingerprint import of_model
from densedist.common.task import Trainee
from densedist.seg.data.frames import Frame
from densedist.seg.data.reading import Reader, as_sample
from densedist.seg.data.transforms import TrainingTransform
from densedist.seg.datasets import split_frames
from densedist.seg.labels import Classes
from densedist.seg.networks.dense import LOGITS
from densedist.seg.networks.resampling import is_mirrored
from densedist.seg.teacher.kept import KEPT
from densedist.seg.teacher.teacher import SegTeacher


class CachedReader:
    """Reads a frame as seg.data.Reader does, with the teacher's logits for it and where its pixels come from.

    To a sample come "teacher": maps (K, h, w) by name, over the whole image padded to "teacher_size" (height, width),
    and "coordinates": x and y in the image, (2, a, b), over the sample, NaN in padding.

    Args:
        reader: without a transform.
        transform: what moves the pixels.
        kept: of open_cache.
    """

    def __init__(self, reader: Reader, transform: TrainingTransform, kept: Mapping[str, tuple[Arrays, int]]) -> None:
        self.reader, self.transform, self.kept = reader, transform, kept

    def __call__(self, frame: Frame) -> dict[str, Any]:
        image, label, coordinates = self.transform.with_coordinates(*self.reader.read(frame))
        arrays, number = self.kept[frame["image"]]
        maps = arrays.read(number)
        if (mirrored := self.transform.mirrored_classes) is not None and is_mirrored(coordinates):
            maps = {name: x[mirrored] if name in LOGITS else x for name, x in maps.items()}
        known = {"teacher": maps, "teacher_size": arrays.about[number]["size"], "coordinates": coordinates}
        return as_sample(frame, image, label) | known


def fill_cache(cfg: CfgNode, trainee: Trainee) -> float:
    """Let the teacher see every training image that its cache lacks; seconds that the cache has taken in all.

    Raises:
        UserError: a cache of another teacher or of other images, logits that their bits do not hold, or a disk
            without room.
    """
    node = cfg.DISTILL.TEACHER
    if trainee.distillation is None:
        return 0.0
    if not node.CACHE:
        if node.CACHE_BITS != 16:
            raise UserError(f"{KEY}_BITS is {node.CACHE_BITS}, but {KEY} is empty: name a folder, or set it to 16")
        return 0.0
    teacher = trainee.distillation.teacher
    model, read = teacher.model, Reader(Classes.of(cfg), cfg.INPUT.FORMAT)
    asked = {
        "the order of channels": cfg.INPUT.FORMAT[::-1] if teacher.flip_channels else cfg.INPUT.FORMAT,
        "MODEL.PIXEL_MEAN": model.mean.tolist(),
        "MODEL.PIXEL_STD": model.std.tolist(),
        "MODEL.STRIDE": model.divisor,
        "DISTILL.TEACHER.PRECISION": teacher.precision,
        "DISTILL.TEACHER.CACHE_BITS": node.CACHE_BITS,
        "form and classes": model.identity,
    }
    made_by = of_model(model, **asked)
    seconds = 0.0
    for file, split in _files(cfg):
        whole = _Whole(teacher, read, split, packed=LOGITS if node.CACHE_BITS == 8 else ())
        seconds += fill(file, [frame["image"] for frame in split], made_by, whole.about, whole.logits)
    return seconds


class _Whole:
    """What a teacher gives for the whole images of a split, by their number.

    Args:
        packed: the maps that are kept in 8 bits, where the teacher gives them.
    """

    def __init__(self, teacher: SegTeacher, read: Reader, split: Sequence[Frame], packed: Sequence[str]) -> None:
        self.teacher, self.read, self.split, self.packed = teacher, read, split, packed
        self.known: dict[tuple[int, ...], About] = {}  # by size of the batch

    def about(self, number: int) -> About:
        """Return the size of the padded image, and the shapes of its logits."""
        image = torch.empty(3, *read_header(self.split[number]["image"]).size, device="meta")
        size = self.teacher.model.padded_size([image])
        if size not in self.known:
            output = self._output(torch.zeros(3, *size))
            self.known[size] = {
                "size": list(size),
                "shapes": {name: list(x.shape) for name, x in output.items()},
                "eight_bits": [name for name in output if name in self.packed],
            }
        return self.known[size]

    def logits(self, number: int) -> dict[str, Tensor]:
        """Return maps (K, h, w) by name."""
        return self._output(self.read(self.split[number] | {"label": None})["image"])

    def _output(self, image: Tensor) -> dict[str, Tensor]:
        output = self.teacher.live_maps([image])
        return {name: output[name][0] for name in KEPT if name in output}


def open_cache(cfg: CfgNode) -> dict[str, tuple[Arrays, int]]:
    """Open the cache that fill_cache has filled: by training image its file and its number there."""
    opened = [Arrays(file) for file, _ in _files(cfg)]
    return {image: (arrays, number) for arrays in opened for number, image in enumerate(arrays.images)}


def _files(cfg: CfgNode) -> Iterator[tuple[Path, list[Frame]]]:
    """Yield for each split that is trained on its file of the cache, and its frames."""
    folder, node = Path(cfg.DISTILL.TEACHER.CACHE).expanduser(), cfg.DATASETS
    for split in dict.fromkeys(name for side in TRAINED for name in node[side]):
        yield (
            cache_file(folder, str(split), "logits"),
            split_frames(cfg, split, KEY, need_labels=False, may_be_bare=True),
        )
