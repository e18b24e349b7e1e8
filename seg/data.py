"""Images and labels in Cityscapes' form: which files there are, whether they are sound, what is read from them."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.data.samplers import TrainingSampler
from torch.utils.data import DataLoader

from densedist.common.data import digits
from densedist.common.data.images import check_image, check_images
from densedist.common.data.loader import Batches, build_loader, labeled_and_unlabeled
from densedist.common.errors import UserError, on_main_process
from densedist.common.randomness import RunPosition
from densedist.seg.labels import UNKNOWN, Classes
from densedist.seg.transforms import Transform, training_transform

IMAGES, LABELS = "leftImg8bit", "gtFine"
TREE = f"want {IMAGES}/SPLIT/CITY/*_{IMAGES}.png, and labels {LABELS}/SPLIT/CITY/*_{LABELS}_labelIds.png"
# A frame: {"name": CITY_SEQ_FRAME, "image": path, "label": path or None}
Frame = dict[str, Any]


def frames(root: str, split: str, key: str, need_labels: bool) -> list[Frame]:
    """The frames of a split, sorted by path.

    Args:
        root: a folder in Cityscapes' form, or "digits".
        split: a folder of leftImg8bit, or a part of its frames as in "train[:100]".
        key: the config key that names the split, for messages.
        need_labels: without them a split may have no label at all, as Cityscapes' test split.

    Raises:
        UserError: a missing folder, a split without images, an image without its label.
    """
    if not root:
        raise UserError("DATASETS.ROOT is empty: name the data set's folder")
    folder = digits.ensure() if root == "digits" else Path(root).expanduser()
    parts = re.fullmatch(r"([^\[\]]+)(?:\[(\d*):(\d*)\])?", str(split))
    if not parts:
        raise UserError(f"{key}: {split} is not a split's name, or one with a slice, as train[:100]")
    name, start, stop = parts.groups()
    if not (folder / IMAGES / name).is_dir():
        raise UserError(f"{key}: there is no folder {folder / IMAGES / name}; {TREE}")
    images = sorted((folder / IMAGES / name).glob(f"*/*_{IMAGES}.png"))
    images = images[int(start) if start else None : int(stop) if stop else None]
    if not images:
        raise UserError(f"{key}: no image of {split} in {folder / IMAGES / name}; {TREE}")
    labeled = need_labels or (folder / LABELS / name).is_dir()
    return [_frame(image, folder, key, labeled) for image in images]


def _frame(image: Path, folder: Path, key: str, labeled: bool) -> Frame:
    name = image.name.removesuffix(f"_{IMAGES}.png")
    label = folder / LABELS / image.parent.relative_to(folder / IMAGES) / f"{name}_{LABELS}_labelIds.png"
    if labeled and not label.is_file():
        raise UserError(f"{key}: image {image} has no label {label}; {TREE}")
    return {"name": name, "image": str(image), "label": str(label) if labeled else None}


class Reader:
    """Reads a frame: {"name", "image": uint8 (3, H, W), "height", "width", "sem_seg": trainIds, int64 (H, W)}.

    Args:
        classes: the meaning of the labelIds.
        channels: channel order of the image, "RGB" or "BGR".
        transform: of image (H, W, 3) and labelIds (H, W); None = as they are.
    """

    def __init__(self, classes: Classes, channels: str, transform: Transform | None = None) -> None:
        self.classes, self.channels, self.transform = classes, channels, transform

    def __call__(self, frame: Frame) -> dict[str, Any]:
        """
        Raises:
            UserError: a file that cannot be read, sizes that disagree, a labelId without a meaning.
        """
        image = _read(frame["image"], cv2.IMREAD_COLOR_BGR if self.channels == "BGR" else cv2.IMREAD_COLOR_RGB)
        label = self._label_ids(frame, image.shape[:2])
        if self.transform:
            image, label = self.transform(image, label)
        sample: dict[str, Any] = {"name": frame["name"], "height": image.shape[0], "width": image.shape[1]}
        sample["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        if label is not None:
            train_ids = self.classes.train_ids[label]
            if (unknown := train_ids == UNKNOWN).any():
                ids = sorted(set(label[unknown].tolist()))
                raise UserError(
                    f"{frame['label']} holds labelIds {ids}, which the config does not name: "
                    "add them to DATASETS.CLASSES or DATASETS.IGNORED_IDS"
                )
            sample["sem_seg"] = torch.from_numpy(train_ids.astype(np.int64))
        return sample

    def _label_ids(self, frame: Frame, size: tuple[int, ...]) -> np.ndarray | None:
        if frame["label"] is None:
            return None
        label = _read(frame["label"], cv2.IMREAD_UNCHANGED)
        if label.shape != size:
            sizes = f"{label.shape} pixels and its image {size}"
            raise UserError(f"{frame['label']} has {sizes}: they must be of one size, the label with one channel")
        return label


def _read(path: str, flag: int) -> np.ndarray:
    array = cv2.imread(path, flag)
    if array is None:
        raise UserError(f"{path} cannot be read as an image")
    return array


def bare_frames(files: Mapping[str, Path]) -> list[Frame]:
    """Frames of any image files, by name, without labels."""
    return [{"name": name, "image": str(file), "label": None} for name, file in files.items()]


def training_frames(cfg: CfgNode) -> list[Frame]:
    """The frames of DATASETS.TRAIN, all with labels."""
    return _all_frames(cfg, "TRAIN", need_labels=True)


def unlabeled_frames(cfg: CfgNode) -> list[Frame]:
    """The frames of DATASETS.UNLABELED, without their labels, if they have any."""
    return [frame | {"label": None} for frame in _all_frames(cfg, "UNLABELED", need_labels=False)]


def test_frames(cfg: CfgNode) -> list[Frame]:
    """The frames of DATASETS.TEST, with labels where the split has them."""
    return _all_frames(cfg, "TEST", need_labels=False)


def _all_frames(cfg: CfgNode, side: str, need_labels: bool) -> list[Frame]:
    found = (frames(cfg.DATASETS.ROOT, s, f"DATASETS.{side}", need_labels) for s in cfg.DATASETS[side])
    return [frame for split in found for frame in split]


def training_batches(cfg: CfgNode) -> Callable[[RunPosition], Batches]:
    """Endless batches of augmented samples, divided among the processes, from a position on.

    SOLVER.IMS_PER_BATCH of DATASETS.TRAIN and, where it is set, SOLVER.UNLABELED_IMS_PER_BATCH of
    DATASETS.UNLABELED.
    """
    reader = Reader(Classes.of(cfg), cfg.INPUT.FORMAT, training_transform(cfg))
    labeled, unlabeled = training_frames(cfg), unlabeled_frames(cfg)

    def batches(dataset: list[Frame], position: RunPosition, images: int, key: str) -> Batches:
        sampler = TrainingSampler(len(dataset), seed=position.seed)
        return build_loader(dataset, reader, sampler, cfg, position, images, key)

    return lambda position: labeled_and_unlabeled(
        cfg,
        lambda images: batches(labeled, position, images, "SOLVER.IMS_PER_BATCH"),
        lambda images: batches(unlabeled, position, images, "SOLVER.UNLABELED_IMS_PER_BATCH"),
    )


def test_loader(cfg: CfgNode, dataset: Sequence[Frame]) -> DataLoader:
    """The frames one by one, each to one of the processes."""
    reader = Reader(Classes.of(cfg), cfg.INPUT.FORMAT)
    return build_detection_test_loader(list(dataset), mapper=reader, num_workers=cfg.DATALOADER.NUM_WORKERS)


FRAMES: Mapping[str, Callable[[CfgNode], list[Frame]]] = {
    "TRAIN": training_frames,
    "UNLABELED": unlabeled_frames,
    "TEST": test_frames,
}


def check_data(cfg: CfgNode, *sides: str) -> None:
    """Make sure that the frames of DATASETS.TRAIN, UNLABELED and TEST, or of the given sides, are there and whole.

    Raises:
        UserError: a missing frame or label, or, unless DATALOADER.CHECK_FILES is False, a damaged file.
    """
    on_main_process(lambda: _check(cfg, sides or tuple(FRAMES)))


def _check(cfg: CfgNode, sides: Sequence[str]) -> None:
    for side in sides:
        frames = FRAMES[side](cfg)
        if cfg.DATALOADER.CHECK_FILES:
            check_images(frames, _check_frame, f"DATASETS.{side}")


def _check_frame(frame: Frame) -> None:
    size = check_image(frame["image"])
    if frame["label"]:
        check_image(frame["label"], size, "in its image")
