"""Which split a path is of, and what is trained and evaluated on."""

import pytest

from densedist.common.init.schedule import schedule
from densedist.common.init.splits import sides, split_of


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("valid/_annotations.coco.json", "val"),
        ("images/training", "train"),
        ("train/test.json", "test"),  # the nearer one
        ("trainer/contest.json", ""),
    ],
)
def test_words_of_a_path_name_its_split(path, split):
    assert split_of(path) == split


def test_the_split_for_the_end_is_not_evaluated_on_the_way():
    chosen = sides({"train": "a", "test": "b"}, {"train": 10, "test": 5})
    assert (chosen.train, chosen.test, chosen.images) == ("a[:8]", "a[8:]", 8)
    assert chosen.comment.endswith("; b is left for the end")


def test_the_only_split_is_trained_on_whatever_it_is_called():
    assert sides({"val": "a"}, {"val": 10}).train == "a[:8]"


@pytest.mark.parametrize(
    ("images", "batch", "iterations"), [(3, 2, 500), (20, 4, 500), (339, 8, 600), (118_000, 8, 177_000)]
)
def test_a_schedule_grows_with_the_images_and_has_a_least_length(images, batch, iterations):
    chosen = schedule(images, 12, 500)
    assert (chosen.batch, chosen.iterations) == (batch, iterations)
    assert chosen.warmup < chosen.period < chosen.iterations
