"""From a frame's files to tensors: the image, and what its label means."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

from densedist.common.data.confidence import Confidence
from densedist.common.data.headers import Header, read_header
from densedist.common.data.images import check_images
from densedist.common.data.pixels import read_pixels
from densedist.common.data.sides import MARK
from densedist.common.errors import UserError
from densedist.seg.data.frames import SCORES, Frame
from densedist.seg.data.label_images import has_colors, read_colors, read_label_ids, read_train_ids
from densedist.seg.data.transforms import Transform
from densedist.seg.labels import IGNORE, UNKNOWN, UNNAMED, Classes


class Reader:
    """Reads a frame: {"name", "image": uint8 (3, H, W), "height", "width", "sem_seg": trainIds, int64 (H, W)}.

    To labels that a teacher wrote come their SCORES, if they count; those of too low a score become IGNORE.

    Args:
        classes: the meaning of the labelIds.
        channels: channel order of the image, "RGB" or "BGR".
        transform: of image (H, W, 3) and label (see read); None = as they are.
        confidence: what is asked of the scores of frames that have some.
    """

    def __init__(
        self,
        classes: Classes,
        channels: str,
        transform: Transform | None = None,
        confidence: Confidence = Confidence(),  # noqa: B008, it is frozen
    ) -> None:
        self.classes, self.channels, self.transform, self.confidence = classes, channels, transform, confidence

    def __call__(self, frame: Frame) -> dict[str, Any]:
        """
        Raises:
            UserError: a file that cannot be read, sizes that disagree, a labelId without a meaning.
        """
        image, label = self.read(frame)
        if self.transform:
            image, label = self.transform(image, label)
        return as_sample(frame, image, label)

    def read(self, frame: Frame) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the image (H, W, 3) as it lies there, and the label (H, W) if there is one.

        The label holds trainIds, uint8; or, where scores count, uint16 whose upper 8 bits are the scores, so that both
        move as one.

        Raises:
            UserError: see above.
        """
        try:
            header = read_header(frame["image"])
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{frame['image']} cannot be read as an image: {error}") from error
        if frame["label"] and (why := turned(header)):
            raise UserError(f"{frame['image']} {why}")
        image = read_pixels(frame["image"], self.channels, header)
        return image, None if frame["label"] is None else self._label(frame, image.shape[:2])

    def _label(self, frame: Frame, size: tuple[int, ...]) -> np.ndarray:
        label = self._train_ids(frame, size)
        if SCORES not in frame or not self.confidence.needs_scores:
            return label
        scores = self._scores(frame, size)
        label = np.where(scores < self.confidence.least * 255, np.uint8(IGNORE), label)
        return label | scores.astype(np.uint16) << 8 if self.confidence.by_score else label

    def _scores(self, frame: Frame, size: tuple[int, ...]) -> np.ndarray:
        scores = read_label_ids(frame[SCORES])
        if scores.shape != size:
            raise UserError(f"{frame[SCORES]} has {scores.shape} pixels and its image {size}: write the labels again")
        return scores

    def labels(self, frame: Frame) -> np.ndarray:
        """Read the trainIds (H, W), uint8, of a frame that has a label.

        Raises:
            UserError: see above.
        """
        return (self._label(frame, read_header(frame["image"]).size) & 255).astype(np.uint8)

    def _train_ids(self, frame: Frame, size: tuple[int, ...]) -> np.ndarray:
        path = frame["label"]
        meant = True
        if frame.get("train_ids"):
            label = read_train_ids(path, self.classes)
        elif frame.get("colors") and has_colors(read_header(path)):
            label = read_colors(path, self.classes)
        else:
            label, meant = read_label_ids(path), False
        if label.shape != size:
            raise UserError(f"{path} has {label.shape} pixels and its image {size}: they must be of one size")
        if meant:
            return label
        train_ids = cv2.LUT(label, self.classes.train_ids)
        if (unknown := train_ids == UNKNOWN).any():
            ids = sorted(set(label[unknown].tolist()))
            raise UserError(f"{path} holds labelIds {ids}, {UNNAMED}")
        return train_ids


def as_sample(frame: Frame, image: np.ndarray, label: np.ndarray | None) -> dict[str, Any]:
    """Return a sample of an image (H, W, 3) and a label (see Reader.read); a frame's MARK goes with it."""
    sample: dict[str, Any] = {"name": frame["name"], "height": image.shape[0], "width": image.shape[1]}
    sample["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    if label is not None:
        sample["sem_seg"] = torch.from_numpy((label & 255).astype(np.int64))
        if label.dtype == np.uint16:
            sample[SCORES] = torch.from_numpy((label >> 8).astype(np.uint8))
    if MARK in frame:
        sample[MARK] = True
    return sample


def turned(image: Header) -> str | None:
    """Say why an image of that header cannot have a label; None if it can."""
    if image.orientation == 1:
        return None
    return (
        f"is shown turned (EXIF orientation {image.orientation}), and only you know which way its label was drawn: "
        "turn the pixels, or take the mark out"
    )


def count_pixels(read: Reader, frames: Sequence[Frame], source: str) -> np.ndarray:
    """Count the pixels of each trainId in each of n frames with labels: (n, 256), int64; IGNORE is the last.

    Args:
        source: where the frames are named, for messages.

    Raises:
        UserError: a label that cannot be read.
    """
    counts = check_images(frames, lambda frame: np.bincount(read.labels(frame).ravel(), minlength=256), source)
    return np.stack(counts) if counts else np.zeros((0, 256), np.int64)
