"""Numbers and times in words."""

import pytest

from densedist.common.words import duration, some


@pytest.mark.parametrize(("count", "words"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_counts(count, words):
    assert some(count, "image") == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3569, "59 min"), (3571, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_times(seconds, words):
    assert duration(seconds) == words
