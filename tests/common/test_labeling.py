"""From which score on a teacher's labels are trusted, and where they may be written."""

import numpy as np
import pytest

from densedist.common.errors import UserError
from densedist.common.labeling import Calibration, Labeling, check_same_names, read_way, warn_of_bare


def best_f1(scores, right, truth):
    """The highest score with the best F1, of all that there are."""
    kept = [(2 * right[scores >= s].sum() / ((scores >= s).sum() + truth), s) for s in scores]
    return max(kept)[1]


def test_thresholds_have_the_best_f1_of_each_class():
    rng = np.random.default_rng(0)
    calibration, seen = Calibration(3), [[], [], []]
    for _ in range(4):  # images
        scores = rng.integers(0, 1001, 50) / 1000  # each is the lower end of its bin
        right = rng.random(50) < scores**2
        classes = rng.integers(0, 2, 50)
        truth = rng.integers(0, 2, 30)
        calibration.add(classes, scores, right, truth)
        for number in range(2):
            of_class = classes == number
            seen[number].append((scores[of_class], right[of_class], (truth == number).sum()))
    found = calibration.thresholds()
    for number in range(2):
        scores, right = (np.concatenate([image[i] for image in seen[number]]) for i in range(2))
        scores = np.minimum(scores, 0.999)
        np.testing.assert_allclose(found[number], best_f1(scores, right, sum(image[2] for image in seen[number])))
    assert found[2] == np.inf  # of which there was none


def test_class_that_is_never_right_is_not_trusted():
    calibration = Calibration(2)
    calibration.add(np.array([0, 1]), np.array([1.0, 1.0]), np.array([False, True]), np.array([0, 1]))
    assert calibration.thresholds().tolist() == [np.inf, 0.999]


def test_least_score_of_a_precision():
    calibration = Calibration(2)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, False, True, False])
    calibration.add(np.zeros(5, int), scores, right, np.zeros(4, int))
    calibration.add(np.ones(1, int), np.array([0.9]), np.array([False]), np.ones(1, int))
    found = calibration.thresholds(0.75)  # from 0.6 on 3 of 4 are right
    assert found[0] == pytest.approx(0.501)  # no prediction lies between it and 0.6
    assert found[1] == np.inf
    assert calibration.thresholds(0.9)[0] == pytest.approx(0.701)
    assert calibration.thresholds(0.1)[0] == 0


def test_scores_by_which_there_are_as_many_as_wanted():
    calibration = Calibration(4)
    for number, scores in enumerate(([0.9, 0.7, 0.5, 0.3], [0.4, 0.2], [0.8])):
        calibration.add(np.full(len(scores), number), np.array(scores), np.zeros(len(scores), bool), np.zeros(0))
    found = calibration.thresholds_of_counts(np.array([2.0, 5.0, 0.0, 3.0]))
    assert 0.5 < found[0] <= 0.7
    assert found[1] == 0  # all of a class that has too few
    assert found[2:].tolist() == [np.inf, np.inf]  # of which none is wanted, or none made


@pytest.mark.parametrize("way", ["best", "precision:", "precision:0", "precision:1.1", "precision:nan"])
def test_ways_of_choosing(way):
    with pytest.raises(UserError, match=f"X is {way}: want f1, frequencies or precision:P, with P above 0, 1 at most"):
        read_way(way, "X")
    assert (read_way("f1"), read_way("frequencies"), read_way("precision:0.8")) == (None, None, 0.8)


def test_a_band_lies_below_the_score(tmp_path):
    Labeling([], {}, tmp_path, 0.7, ignore=0.3)
    Labeling([], {}, tmp_path, None, ignore=0.3)
    with pytest.raises(UserError, match=r"--ignore-threshold is 0.7, but predictions are labels from .* 0.7 on: want"):
        Labeling([], {}, tmp_path, 0.7, ignore=0.7)
    with pytest.raises(UserError, match=r"--ignore-threshold is 2: want a number from 0 to 1"):
        Labeling([], {}, tmp_path, None, ignore=2)


def test_files_of_a_folder_are_safe(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match=r"--output-dir: .* has files: name an empty or new folder"):
        Labeling([], {}, tmp_path).begin()
    with pytest.raises(UserError, match=r"--output-dir: cannot write to .*/a/b"):
        Labeling([], {}, tmp_path / "a" / "b").begin()
    with pytest.raises(UserError, match=r"--score-threshold is 1.5: want a number from 0 to 1"):
        Labeling([], {}, tmp_path / "b", 1.5).begin()
    Labeling([], {}, tmp_path / "b").begin()
    assert (tmp_path / "b").is_dir()


def test_teachers_of_other_classes_are_refused():
    check_same_names([["a", "b"], ["a", "b"]])
    with pytest.raises(UserError, match="the classes of teacher 2, b, a, are not those of the first, a, b"):
        check_same_names([["a", "b"], ["b", "a"]])


@pytest.mark.parametrize(
    ("way", "option"), [("f1", "--choose-thresholds"), ("precision:0.8", "--choose-by precision:0.8")]
)
def test_classes_without_labels_are_named_with_the_option_that_was_given(caplog, way, option):
    warn_of_bare(["a", "b"], np.array([0.5, np.inf]), way)
    assert f"{option}: no label of b will be written: " in caplog.text
