"""Teachers of segmentation: what they are built from, in which classes they teach, and what holds them."""

from densedist.seg.teacher.loading import load_teacher
from densedist.seg.teacher.teacher import SegTeacher

__all__ = ["SegTeacher", "load_teacher"]
