"""The legend below a picture of classes."""

import numpy as np

from densedist.seg.legend import MOST_ROWS, Legend

COLORS = np.array([[200, 10 * n, 5] for n in range(20)], np.uint8)
NAMES = [f"class {n}" for n in range(20)]


def colors_below(drawn, height):
    found = {tuple(color) for color in drawn[height:].reshape(-1, 3).tolist()}
    return [number for number, color in enumerate(COLORS.tolist()) if tuple(color) in found]


def test_classes_that_occur_are_named_below_a_picture():
    picture = np.full((30, 300, 3), 7, np.uint8)
    legend = Legend(NAMES, COLORS, 300)
    shares = np.zeros(20)
    shares[[3, 17]] = 0.5
    drawn = legend.below(picture, shares)
    np.testing.assert_array_equal(drawn[:30], picture)
    assert colors_below(drawn, 30) == [3, 17]
    assert len(legend.below(picture, np.full(20, 0.05))) > len(drawn) > 30


def test_a_picture_narrower_than_a_name_is_widened():
    drawn = Legend(["a long name of a class"], COLORS[:1], 30).below(np.zeros((20, 30, 3), np.uint8), [1.0])
    assert drawn.shape[1] > 100
    assert (drawn[:20, 30:] == 255).all()


def test_frames_of_a_video_have_one_size_and_the_classes_with_most_pixels():
    legend, frame = Legend(NAMES, COLORS, 100), np.zeros((40, 100, 3), np.uint8)
    one, all_of_them = np.eye(20)[5], np.arange(1, 21) / 210
    drawn = [legend.below_frame(frame, shares) for shares in (one, all_of_them)]
    assert drawn[0].shape == drawn[1].shape
    assert colors_below(drawn[0], 40) == [5]
    shown = colors_below(drawn[1], 40)
    assert MOST_ROWS <= len(shown) < 20
    assert shown == list(range(20 - len(shown), 20))
