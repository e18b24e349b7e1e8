"""A look at the image files of a config before training, by one process for all."""

from collections.abc import Callable, Mapping, Sequence

from detectron2.config import CfgNode

from common.images import check_images, look
from common.once import once
from seg.data import Frame, test_frames, training_frames, unlabelled_frames

FRAMES: Mapping[str, Callable[[CfgNode], list[Frame]]] = {
    "TRAIN": training_frames,
    "UNLABELED": unlabelled_frames,
    "TEST": test_frames,
}


def check_data(cfg: CfgNode, *sides: str) -> None:
    """Make sure that the frames of DATASETS.TRAIN, UNLABELED and TEST, or of the given sides, are there and whole.

    Raises:
        UserError: a missing frame or label, or, unless DATALOADER.CHECK_FILES is False, a damaged file.
    """
    once(lambda: _check(cfg, sides or tuple(FRAMES)))


def _check(cfg: CfgNode, sides: Sequence[str]) -> None:
    for side in sides:
        frames = FRAMES[side](cfg)
        if cfg.DATALOADER.CHECK_FILES:
            check_images(frames, _look, f"DATASETS.{side}")


def _look(frame: Frame) -> None:
    size = look(frame["image"])
    if frame["label"]:
        look(frame["label"], size, "in its image")
