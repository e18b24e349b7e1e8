"""Plans of detectors beside real steps."""

import pytest

from benchmarks.peaks import planned_and_real
from densedist.det.task import TASK
from helpers import tiny


@pytest.mark.parametrize(
    ("student", "teacher", "half"),
    [(tiny.STUDENT, tiny.TEACHER, True), (tiny.RETINANET, tiny.RETINANET_TEACHER, False)],
    ids=["two stages", "one stage"],
)
def test_planned_memory_is_that_of_a_real_step(student, teacher, half, tmp_path):
    keys = ["DISTILL.TEACHER.CONFIG_FILE", teacher, "DISTILL.TEACHER.WEIGHTS", "not/there.pth"]
    keys += ["DISTILL.TEACHER.PRECISION", "float32", "SOLVER.AMP.ENABLED", half, "SOLVER.AMP.PRECISION", "bfloat16"]
    planned, real = planned_and_real(TASK, tmp_path, student, *keys)
    assert planned == pytest.approx(real, rel=0.15)


def test_images_of_a_plan():
    def of(*keys):
        return TASK.planned(TASK.read_config("det/coco/faster_rcnn_r50.yaml", keys), None)

    assert (of().size, of().largest) == ((800, 1066), (800, 1333))
    assert of("DATALOADER.ASPECT_RATIO_GROUPING", "False").largest == (1333, 1333)
    several = of("INPUT.MIN_SIZE_TRAIN", "(640, 800)")
    assert (several.size, several.largest) == ((720, 960), (800, 1333))
    labeled, unlabeled = several.batch((64, 96), 1, 1)
    assert labeled["image"].shape == unlabeled["image"].shape == (3, 64, 96)
    assert len(labeled["instances"]) == 7
    assert "instances" not in unlabeled
