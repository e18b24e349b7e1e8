"""From which score on a teacher's labels are trusted, and where they may be written."""

import numpy as np
import pytest

from densedist.common.errors import UserError
from densedist.common.labeling import Calibration, Labeling, check_same_names


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
