"""Colors of classes to which the data gives none."""

import numpy as np
import pytest

from densedist.det.drawing import MISSED, PLAIN, RIGHT, WRONG
from densedist.seg.init.palette import FIRST, distances, distinct_colors, seen_as

VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128)]


def least(colors):
    """The distance of the two nearest."""
    return (distances(colors, colors) + 1000 * np.eye(len(colors))).min()


def test_colors_are_far_from_one_another_for_color_blind_readers_too():
    assert least(VOC) < 6
    assert least(distinct_colors(8)) > 13
    assert least(distinct_colors(20)) > 11


def test_fewer_colors_are_the_first_of_more():
    assert tuple(distinct_colors(7)) == FIRST
    assert distinct_colors(3) == distinct_colors(40)[:3]
    assert len(set(distinct_colors(40))) == 40


def test_red_and_green_are_alike_without_red_or_green_cones():
    """By numbers of Machado et al.: a red and a green of one lightness, far apart in normal vision."""
    normal, *without = (np.linalg.norm(red - green) for red, green in seen_as([(200, 90, 0), (110, 130, 0)]))
    assert normal > 50
    assert max(without) < normal / 2


def test_boxes_that_are_right_wrong_and_missed_are_told_apart():
    colors = [tuple(bytes.fromhex(color[1:])) for color in (RIGHT, WRONG, MISSED, PLAIN)]
    assert least(colors) > 39


@pytest.mark.parametrize("count", [1, 254])
def test_any_number_of_classes(count):
    assert len(set(distinct_colors(count))) == count
