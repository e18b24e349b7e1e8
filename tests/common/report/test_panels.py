"""Panels by themselves, and which images are shown."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from densedist.common.report.panels import Panel, encode, furthest


@pytest.mark.drawn
@pytest.mark.parametrize("over", [None, lambda axis: axis.text(0, 0, "cat", fontsize=7)])
@pytest.mark.parametrize("size", [(10, 20), (1000, 2000)])
def test_picture_of_a_page_is_no_larger_than_a_screen_shows(over, size):
    panel = Panel(np.full((*size, 3), (250, 10, 10), np.uint8), "student", "", over)
    with Image.open(BytesIO(encode(panel))) as image:
        small = over is None and size == (10, 20)
        assert (image.format, image.size) == (("PNG", (20, 10)) if small else ("JPEG", (640, 320)))
        np.testing.assert_allclose(np.asarray(image)[-1, -1], (250, 10, 10), atol=6)


def test_images_in_which_two_differ_most_come_first():
    apart = {"a": 1, "b": 3, "c": 3, "d": 0}
    chosen, words = furthest(list(apart), apart.get, 3, "teacher and student", 4)
    assert chosen == ["b", "c", "a"]
    assert words == "all 4 test images were compared. Shown: the 3 in which teacher and student differ most"
    said = furthest(list(apart), apart.get, 4, "none and dist", 4)[1]
    assert said == "all 4 test images; none and dist differ most in the first"
    assert furthest(["a"], apart.get, 4, "a and b", 1)[1] == "the only test image"
    chosen, words = furthest(list(apart), apart.get, 1, "none and dist", 20)
    assert words == "4 of the 20 test images were compared. Shown: the one in which none and dist differ most"
