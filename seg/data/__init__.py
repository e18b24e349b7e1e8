"""Segmentation data: which files there are, what is checked of them, what is read from them, batches of it."""

from densedist.seg.data.frames import Frame, frames
from densedist.seg.data.reading import Reader

__all__ = ["Frame", "Reader", "frames"]
