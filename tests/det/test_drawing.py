"""Right, wrong and missed boxes, by hand."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from matplotlib.figure import Figure

from densedist.common.report.panels import show
from densedist.det.drawing import RIGHT, Marks, best_score, judged, match

ONE, TWO = [0, 0, 10, 10], [20, 0, 30, 10]


def found(*entries):
    boxes, classes, scores = zip(*entries, strict=True) if entries else ((), (), ())
    result = Instances((40, 40), pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)))
    result.pred_classes, result.scores = torch.tensor(classes, dtype=torch.int64), torch.tensor(scores)
    return result


def objects(*entries):
    boxes, classes = zip(*entries, strict=True) if entries else ((), ())
    result = Instances((40, 40), gt_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)))
    result.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return result


def matched(found, objects):
    return [part.tolist() for part in match(found, objects)]


def test_one_box_for_one_object_the_surest_first():
    twice = found((ONE, 0, 0.6), (ONE, 0, 0.9))
    assert matched(twice, objects((ONE, 0))) == [[False, True], [True]]
    assert matched(twice, objects((ONE, 0), (ONE, 0))) == [[True, True], [True, True]]


def test_the_class_counts():
    assert matched(found((ONE, 1, 0.9)), objects((ONE, 0))) == [[False], [False]]


def test_half_an_overlap_is_enough():
    half, less = [0, 0, 10, 5], [0, 0, 10, 4.9]
    assert matched(found((half, 0, 0.9)), objects((ONE, 0))) == [[True], [True]]
    assert matched(found((less, 0, 0.9)), objects((ONE, 0))) == [[False], [False]]


def test_the_best_overlap_that_is_left():
    shifted = [0, 0, 10, 9]
    boxes = found((ONE, 0, 0.9), (ONE, 0, 0.8))
    assert matched(boxes, objects((shifted, 0), (ONE, 0))) == [[True, True], [True, True]]
    assert matched(found((ONE, 0, 0.9)), objects((shifted, 0), (ONE, 0))) == [[True], [False, True]]


def test_nothing_to_match():
    assert matched(found(), objects((ONE, 0))) == [[], [False]]
    assert matched(found((ONE, 0, 0.9)), objects()) == [[False], []]
    assert matched(found(), objects()) == [[], []]


def test_marks_and_counts():
    marks, counts = judged(found((ONE, 0, 0.9), (ONE, 1, 0.65)), objects((ONE, 0), (TWO, 1)), ["cat", "dog"])
    assert counts == "1 right, 1 wrong, 1 missed"
    assert [mark.texts for mark in marks] == [["dog"], ["dog 65%"], ["cat 90%"]]
    assert [mark.dashed for mark in marks] == [True, False, False]
    assert marks[0].boxes.tensor.tolist() == [TWO]


@pytest.mark.parametrize(("known", "most"), [(1, 10), (4, 12)])
def test_of_many_boxes_the_surest_are_marked(known, most):
    many = found(*[(ONE, 1, score / 100) for score in range(40)], (TWO, 1, 0.5))
    (_, wrong, right), counts = judged(many, objects(*[(TWO, 1)] * known), ["cat", "dog"])
    assert counts == f"1 right, 40 wrong, {known - 1} missed\n(drawn: the {most} surest boxes)"
    assert right.texts == ["dog 50%"]
    assert wrong.texts == [f"dog {score}%" for score in range(39, 40 - most, -1)]


def test_best_score_over_two_images():
    """F1 from 0.9 on: 2/(1+3), from 0.8: 2/(2+3), from 0.3: 4/(3+3), from 0.2: 4/(4+3)."""
    images = [found((ONE, 0, 0.9), (ONE, 0, 0.8), (ONE, 0, 0.2)), found((TWO, 1, 0.3))]
    truth = [objects((ONE, 0)), objects((TWO, 1), (ONE, 1))]
    assert best_score(images, truth) == pytest.approx(0.3)
    assert best_score(images, [objects(), objects((ONE, 1))]) is None


def test_labels_are_not_cut_off_at_the_edges_of_a_picture():
    axis = Figure(figsize=(3, 2)).add_axes((0, 0, 1, 1), aspect="auto")
    show(axis, np.zeros((200, 300, 3), np.uint8))
    corners = [
        [0, 0, 20, 20],
        [280, 0, 300, 20],
        [285, 150, 305, 199],
        [140, 90, 200, 120],
        [-5, 199, 9, 200],
        [60, -40, 80, 20],
    ]
    Marks(Boxes(torch.tensor(corners)), ["motorcyclist 87%"] * len(corners), RIGHT).draw(axis)
    for text in axis.texts:
        assert text.get_clip_on()
        x0, y0, x1, y1 = text.get_window_extent().extents
        assert x0 >= -1
        assert y0 >= 0
        assert x1 <= 300
        assert y1 <= 200
