"""Classes that are each other's mirror images, and those whose names say so."""

import re

import pytest

from densedist.common.data.flip_pairs import is_pairs, mirrored_classes, warn_of_sides
from densedist.common.errors import UserError

NAMES = ["skin", "left eye", "right eye", "hair"]


def test_a_pair_is_swapped_and_the_rest_stays():
    assert mirrored_classes([["left eye", "right eye"]], NAMES) == [0, 2, 1, 3]
    assert mirrored_classes([], NAMES) is None


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([["left eye", "right_eye"]], "there is no class right_eye: want names among skin, left eye, right eye, hair"),
        ([["left eye", "right eye"], ["right eye", "hair"]], "right eye is given twice: a class has one mirror image"),
        ([["skin", "skin"]], "skin is given twice"),
    ],
)
def test_what_is_refused(pairs, message):
    with pytest.raises(UserError, match=f"^INPUT.FLIP_PAIRS: {re.escape(message)}"):
        mirrored_classes(pairs, NAMES)


def test_the_form():
    assert is_pairs([["a", "b"], ("c", "d")])
    assert not any(map(is_pairs, (["a", "b"], [["a"]], [["a", 1]], "ab", [["a", "b", "c"]])))


@pytest.mark.parametrize(
    ("names", "pairs", "warned"),
    [
        (NAMES, [], True),
        (["LeftArm", "RightArm"], [], True),
        (["hand_left", "hand_right"], [], True),
        (NAMES, [["left eye", "right eye"]], False),
        (["left eye", "right ear"], [], False),
        (["bright", "right"], [], False),
        (["left", "center"], [], False),
    ],
)
def test_names_that_differ_in_left_and_right_alone_are_a_warning(names, pairs, warned, caplog):
    warn_of_sides(pairs, names, "INPUT.RANDOM_FLIP", "none")
    assert bool(caplog.messages) == warned
    if names is NAMES and warned:
        assert caplog.messages == [
            "INPUT.RANDOM_FLIP shows images mirrored, and 1 pair(s) of classes differ in left and right alone, first "
            "left eye and right eye: name them in INPUT.FLIP_PAIRS, [['left eye', 'right eye'], …], so that they are "
            "swapped, or set INPUT.RANDOM_FLIP to none"
        ]
