"""What is said of labels that are few."""

import pytest

from densedist.common.labels.few import remarks


def record(labels=(4, 0), labeled=2, highest=0.8996, scores=(0.5, 0.3)):
    known = ({"labels": number, "score": score} for number, score in zip(labels, scores, strict=True))
    about = {"images": 40, "labeled_images": labeled, "highest_score": highest}
    return about | {"classes": dict(zip(("car", "bus"), known, strict=True))}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": (30, 9), "labeled": 20}, []),
        (
            {"labels": (2, 2)},
            [
                "Little to train on: 2 of 40 images have labels; the highest score is 0.899; give a lower "
                "threshold, such as --score-threshold 0.1, and another --output-dir"
            ],
        ),
        (
            {"labels": (0, 0), "labeled": 0, "highest": 0.07},
            [
                "Nothing to train on: no score reaches the threshold; the highest score is 0.07; give a lower "
                "threshold, such as --score-threshold 0.04, and another --output-dir"
            ],
        ),
        (
            {"labels": (0, 0), "labeled": 0, "highest": None},
            [
                "Nothing to train on: no score reaches the threshold; the teacher predicts next to nothing in these "
                "images"
            ],
        ),
        (
            {"labels": (1, 1), "labeled": 1, "scores": (0.0, 0.0)},
            ["Little to train on: 1 of 40 images has labels; the highest score is 0.899"],
        ),
        ({"labeled": 20}, ["There are no labels, or hardly any, of bus (1 of 2 classes)"]),
        ({"labels": (0.5, 0.00001), "labeled": 40}, ["There are no labels, or hardly any, of bus (1 of 2 classes)"]),
    ],
)
def test_what_is_said_of_few_labels(changes, said):
    assert remarks(record(**changes)) == said


def test_of_an_earlier_version_less_is_known():
    old = {"images": 40, "classes": {"car": {"labels": 0, "score": 0.5}}}
    said = "Nothing to train on: no score reaches the threshold; give a lower threshold, such as --score-threshold 0.2"
    assert remarks(old)[0].startswith(said)
    old["classes"]["car"]["labels"] = 1
    assert remarks(old) == []
