"""Plans of segmentation models beside real steps."""

import pytest

from benchmarks.peaks import planned_and_real
from densedist.seg.task import TASK
from helpers import scenes


def test_planned_memory_is_that_of_a_real_step(tmp_path):
    keys = ["DISTILL.TEACHER.CONFIG_FILE", scenes.TEACHER, "DISTILL.TEACHER.WEIGHTS", "not/there.pth"]
    keys += ["DISTILL.TEACHER.PRECISION", "float32"]
    planned, real = planned_and_real(TASK, tmp_path, scenes.STUDENT, *keys)
    assert planned == pytest.approx(real, rel=0.15)
