"""Classes of a config against those that the config.yaml beside weights names."""

import logging

import pytest

from densedist.common.errors import UserError
from densedist.common.run_classes import names_of, refuse_exchanged_classes, refuse_other_classes

SEG = "DATASETS: {CLASSES: [{name: red, ids: [0]}, {name: blue, ids: [1]}]}\n"
DET = "DATASETS: {CLASSES: [red, blue]}\n"


@pytest.fixture(params=[SEG, DET], ids=["seg", "det"])
def run(request, tmp_path):
    (tmp_path / "config.yaml").write_text(request.param)
    (tmp_path / "model_final.pth").touch()
    return tmp_path


def test_names_of_both_tasks():
    assert names_of({"CLASSES": [{"name": "red", "ids": [0]}]}) == names_of({"CLASSES": ["red"]}) == ["red"]
    assert names_of({}) == names_of({"CLASSES": None}) == []


@pytest.mark.parametrize("wrong", [["blue", "red"], ["red", "green"]])
def test_other_names_or_another_order_are_refused(run, wrong):
    with pytest.raises(UserError) as refused:
        refuse_other_classes(wrong, run / "config.yaml", "--resume")
    number = 0 if wrong[0] != "red" else 1
    assert str(refused.value) == (
        f"--resume: class {number} is {['red', 'blue'][number]} in {run}/config.yaml, {wrong[number]} in DATASETS: "
        "give the data the same classes in the same order"
    )


def test_another_number_is_refused(run):
    with pytest.raises(UserError, match=r"config.yaml has 2 classes, DATASETS 1: "):
        refuse_other_classes(["red"], run / "config.yaml", "--weights")


def test_the_same_or_unknown_classes_are_not(run):
    refuse_other_classes(["red", "blue"], run / "config.yaml", "--weights")
    refuse_other_classes([], run / "config.yaml", "--weights")
    refuse_other_classes(["x"], None, "--weights")
    refuse_other_classes(["x"], run / "none.yaml", "--weights")
    for says_nothing in ("MODEL: {}\n", "DATASETS: {TRAIN: [a]}\n", "DATASETS: 3\n", "a: [\n", "!!python/tuple [1]\n"):
        (run / "config.yaml").write_text(says_nothing)
        refuse_other_classes(["x"], run / "config.yaml", "--weights")


@pytest.mark.parametrize("weights", ["", "model_final.pth"])
def test_to_start_from_an_exchanged_order_is_refused(run, weights):
    with pytest.raises(UserError, match=r"MODEL.WEIGHTS: class 0 is red in .*config.yaml, blue in DATASETS: give"):
        refuse_exchanged_classes(["blue", "red"], str(run / weights), "MODEL.WEIGHTS")


def test_to_start_from_other_classes_is_meant(run, caplog):
    file = str(run / "model_final.pth")
    with caplog.at_level(logging.WARNING):
        refuse_exchanged_classes(["red", "blue", "green"], file, "MODEL.WEIGHTS")
        refuse_exchanged_classes(["red", "blue"], file, "MODEL.WEIGHTS")
        refuse_exchanged_classes(["blue", "red"], "", "MODEL.WEIGHTS")
        refuse_exchanged_classes(["blue", "red"], "detectron2://a/b.pkl", "MODEL.WEIGHTS")
        refuse_exchanged_classes(["blue", "red"], "module:function", "MODEL.WEIGHTS")
        assert caplog.messages == []
        refuse_exchanged_classes(["cat", "dog"], file, "MODEL.WEIGHTS", "it is meant")
    assert caplog.messages == [
        f"MODEL.WEIGHTS: class 0 is red in {run}/config.yaml, cat in DATASETS: it is meant",
    ]
