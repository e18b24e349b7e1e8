"""The cache of a run: which kind it is, its files, and that they are filled before training."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from densedist.common.cache.arrays import KEY, Arrays, size_in_bytes
from densedist.common.cache.filling import cache_file, fill
from densedist.common.data.sides import TRAINED
from densedist.common.distill.registry import is_on
from densedist.common.errors import UserError
from densedist.common.fingerprint import of_model
from densedist.common.task import Trainee
from densedist.det.cache.boxes import BoxesMapper, BoxesToKeep, ForeignBoxesToKeep
from densedist.det.cache.maps import MapsMapper, MapsToKeep
from densedist.det.data.reading import Mapper
from densedist.det.data.registering import image_files
from densedist.det.teacher.foreign import ForeignTeacher

logger = logging.getLogger(__name__)


def fill_cache(cfg: CfgNode, trainee: Trainee) -> float:
    """Let the teacher see every training image that its cache lacks; seconds that the cache has taken in all.

    Raises:
        UserError: a cache of another teacher or of other images, or a disk without room.
    """
    node = cfg.DISTILL.TEACHER
    if trainee.distillation is None:
        return 0.0
    if not node.CACHE:
        if node.CACHE_MAPS:
            raise UserError("DISTILL.TEACHER.CACHE_MAPS is set, but DISTILL.TEACHER.CACHE is empty: name a folder")
        return 0.0
    teacher: Any = trainee.distillation.teacher
    boxes = ForeignBoxesToKeep if isinstance(teacher, ForeignTeacher) else BoxesToKeep
    to_keep: Any = (MapsToKeep if node.CACHE_MAPS else boxes)(cfg, teacher)
    order = cfg.INPUT.FORMAT[::-1] if teacher.flip_channels else cfg.INPUT.FORMAT
    asked = {"the order of channels": order, "DISTILL.TEACHER.PRECISION": teacher.precision, **to_keep.depends_on}
    made_by = of_model(teacher.model, **asked)
    seconds, files = 0.0, list(_files(cfg))
    if node.CACHE_MAPS:
        size = size_in_bytes([to_keep.about(image) for _, images in files for image in images]) / 1e9
        logger.info(f"{KEY}: the maps of all training images take {size:.3g} GB")
    for file, images in files:
        about, see = (partial(_of_number, function, images) for function in (to_keep.about, to_keep))
        seconds += fill(file, images, made_by, about, see)
    return seconds


def _of_number(function: Callable[[str], Any], images: Sequence[str], number: int) -> Any:
    return function(images[number])


def training_mapper(cfg: CfgNode) -> Mapper:
    """Return Detectron2's mapper; with a cache, which fill_cache has filled, one that adds what is kept."""
    node = cfg.DISTILL.TEACHER
    if not (node.CACHE and is_on(cfg.DISTILL)):
        return Mapper(cfg, is_train=True)
    files = [(Arrays(file), images) for file, images in _files(cfg)]
    kept = {image: (arrays, number) for arrays, images in files for number, image in enumerate(images)}
    return MapsMapper(cfg, kept) if node.CACHE_MAPS else BoxesMapper(cfg, kept)


def _files(cfg: CfgNode) -> Iterator[tuple[Path, list[str]]]:
    """Yield for each data set that is trained on its file of the cache, and its images."""
    folder, node = Path(cfg.DISTILL.TEACHER.CACHE).expanduser(), cfg.DATASETS
    kind = "maps" if cfg.DISTILL.TEACHER.CACHE_MAPS else "boxes"
    for name in dict.fromkeys(name for side in TRAINED for name in node[side]):
        images = list(dict.fromkeys(image_files(name)))
        yield cache_file(folder, name, kind), images
