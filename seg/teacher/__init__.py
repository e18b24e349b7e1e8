"""Teachers of segmentation: what they are built from, in which classes they teach, and what holds them."""

from densedist.seg.teacher.frozen import SegTeacher
from densedist.seg.teacher.loading import load_teacher

__all__ = ["SegTeacher", "load_teacher"]
