"""Teachers of other classes."""

import pytest
import torch

from densedist.common.distill.classes import ClassMap, read_class_map
from densedist.common.errors import UserError

STUDENT = ["car", "road", "sky"]
TEACHER = ["lane", "truck", "road", "car", "sky", "bird"]


def read(given=None, student=STUDENT, teacher=TEACHER, may_lack=False):
    return read_class_map(given or {}, student, teacher, may_lack)


def test_probabilities_are_summed_by_group_and_renormalized():
    classes = read({"car": ["car", "truck"], "road": ["road", "lane"]})
    logits = torch.randn(5, 6, 4, 3, dtype=torch.float64)
    probabilities = logits.softmax(1)
    summed = torch.stack(
        [probabilities[:, 3] + probabilities[:, 1], probabilities[:, 2] + probabilities[:, 0], probabilities[:, 4]], 1
    )
    torch.testing.assert_close(classes.of_teacher(logits, "softmax").softmax(1), summed / summed.sum(1, keepdim=True))
    torch.testing.assert_close(classes.mass(logits), summed.sum(1))


def test_classes_of_the_same_name_need_no_map_and_change_no_bit():
    logits = torch.randn(7, 3)
    classes = read(teacher=["sky", "car", "road"])
    assert torch.equal(classes.of_teacher(logits, "softmax"), logits[:, [1, 2, 0]])


def test_sums_are_finite_in_float16():
    classes = read({"car": ["car", "truck"], "road": ["road", "lane"]})
    logits = torch.tensor([[6e4, -6e4, 6e4, -6e4, 0, 0]]).half()
    assert classes.of_teacher(logits, "softmax").isfinite().all()
    assert classes.mass(logits).item() == 1


def test_of_sigmoids_the_highest_counts():
    classes = read({"car": ["car", "truck"]})
    logits = torch.randn(9, 6)
    wanted = torch.stack([logits[:, [3, 1]].amax(1), logits[:, 2], logits[:, 4]], 1)
    assert torch.equal(classes.of_teacher(logits, "sigmoid"), wanted)


def test_a_class_without_counterpart_is_far_below_all_others():
    classes = read(teacher=["road", "car"], may_lack=True)
    teacher = torch.randn(4, 2)
    logits = classes.of_teacher(teacher, "softmax")
    assert classes.kept == (0, 1)
    assert torch.equal(logits[:, [0, 1]], teacher[:, [1, 0]])
    assert (logits.softmax(1)[:, 2] < 1e-12).all()


def test_backgrounds_and_anchors_have_their_columns():
    classes = read({"car": "truck"}, ["car", "road"], ["road", "truck", "bird"])
    assert classes.with_background(3) == ClassMap(3, (0, 1, 2), ((1,), (0,), (2, 3)))
    assert classes.tiled(2, 3) == ClassMap(4, (0, 1, 2, 3), ((1,), (0,), (4,), (3,)))


@pytest.mark.parametrize(
    ("given", "student", "teacher", "message"),
    [
        ({"cat": "car"}, STUDENT, TEACHER, "the student has no class cat; its classes are car, road, sky"),
        ({"car": "cat"}, STUDENT, TEACHER, "car is made of cat, which the teacher does not have; its classes are lane"),
        ({"car": "road"}, STUDENT, TEACHER, "the teacher's road is in both car and road: name it once"),
        ({}, ["cat", "car"], TEACHER, "cat has no counterpart among the teacher's classes: name them, or set DIST"),
    ],
)
def test_wrong_maps_are_refused(given, student, teacher, message):
    with pytest.raises(UserError, match=message):
        read(given, student, teacher)


def test_some_class_has_a_counterpart():
    with pytest.raises(UserError, match="none of the student's classes has a counterpart among the teacher's: bird"):
        read(teacher=["bird"], may_lack=True)
