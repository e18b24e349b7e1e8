"""Scores by name and in words."""

import pytest

from densedist.common.report.scores import by_class, flatten, in_words, overall


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bbox/AP", "box AP"),
        ("segm/AP-traffic-light", "mask AP, traffic-light"),
        ("digits_val/bbox/AP50", "digits_val: box AP50"),
        ("sem_seg/IoU-road", "IoU, road"),
        ("a/b/sem_seg/mIoU", "a/b: mIoU"),
    ],
)
def test_metrics_in_words(name, words):
    assert in_words(name) == words


def test_scores_of_one_and_of_several_test_sets():
    one = {"bbox": {"AP": 40.0, "AP-car": float("nan"), "AP50-car": 1.0}}
    assert flatten(one) == {"bbox/AP": 40.0, "bbox/AP-car": None, "bbox/AP50-car": 1.0}
    assert by_class(flatten(one), "bbox/AP") == {"car": None}
    val, test = ({"sem_seg": {"mIoU": value, "IoU-a-b": 2 * value}} for value in (1.0, 3.0))
    two = flatten({"val": val, "test": test})
    assert by_class(two, "test/sem_seg/mIoU") == {"a-b": 6.0}
    assert overall(two) == {"val/sem_seg/mIoU": 1.0, "test/sem_seg/mIoU": 3.0}
