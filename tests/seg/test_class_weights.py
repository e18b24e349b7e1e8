"""Weights of the classes by how often labels have them."""

import math

import cv2
import numpy as np
import pytest
import torch

from densedist.common.errors import UserError
from densedist.seg.class_weights import class_weights, inverse_log, median_frequency
from densedist.seg.data.frames import frames
from densedist.seg.models import build_trainee, read_config
from helpers.processes import run_processes
from helpers.scenes import STUDENT, config, write_tree

CLASSES = [{"name": name, "ids": [i], "color": [i, 0, 0]} for i, name in enumerate(["sky", "road", "rider", "train"])]
# Pixels of sky, road, rider and train in two images of 40 each; in the first, 10 more do not count.
PIXELS = [[20, 10, 0, 0], [10, 20, 10, 0]]


def data(folder, *more):
    for number, counts in enumerate(PIXELS):
        write_tree(folder, f"s{number}", 1, (5, 8))
        ids = np.repeat([0, 1, 2, 3, 255], [*counts, 40 - sum(counts)]).astype(np.uint8)
        cv2.imwrite(frames(str(folder), f"s{number}", "", True)[0]["label"], ids.reshape(5, 8))
    keys = ["DATASETS.ROOT", folder, "DATASETS.TRAIN", "['s0', 's1']", "DATASETS.CLASSES", CLASSES]
    return [*keys, "DATASETS.IGNORED_IDS", "[255]", "MODEL.CLASS_WEIGHTS", "[]", *more]


def wanted(balance):
    if balance == "inverse_log":
        return [1 / math.log(1.02 + part / 70) for part in (30, 30, 10, 0)]
    frequencies = [30 / 70, 30 / 70, 10 / 40]
    return [*((30 / 70) / f for f in frequencies), 1.0]


def alike(rank, count, keys, balance):
    assert class_weights(config(STUDENT, *keys)) == pytest.approx(wanted(balance))


def test_labels_of_a_teacher_count_like_others(tmp_path):
    keys = data(tmp_path, "MODEL.CLASS_BALANCE", "inverse_log")
    apart = [*keys, "DATASETS.TRAIN", "['s0']", "DATASETS.PSEUDO_LABELED", "['s1']"]
    assert class_weights(config(STUDENT, *apart)) == pytest.approx(wanted("inverse_log"))


@pytest.mark.parametrize("balance", ["median_frequency", "inverse_log"])
def test_weights(balance, tmp_path, caplog):
    keys = data(tmp_path, "MODEL.CLASS_BALANCE", balance)
    cfg = config(STUDENT, *keys)
    with caplog.at_level("INFO"):
        found = class_weights(cfg)
    assert found == pytest.approx(wanted(balance))
    assert class_weights(cfg) == found
    assert f"MODEL.CLASS_BALANCE {balance}, of 2 labels: sky {found[0]:.3g}, road" in caplog.text
    run_processes(2, alike, keys, balance)
    trainee = build_trainee(cfg)
    assert torch.equal(trainee.model.task.losses["ce"].class_weights, torch.tensor(found))
    least, most = ("sky", "train") if balance == "inverse_log" else ("road", "rider")
    note = trainee.notes["classes"]
    assert note.startswith(f"weighed by {balance}, from {min(found):.3g} (")
    assert note.endswith(f" to {max(found):.3g} ({most})")
    assert least in note or "road" in note


def test_a_class_twice_as_rare_weighs_twice_as_much():
    pixels = np.array([[400, 200, 100]])
    assert median_frequency(pixels).tolist() == pytest.approx([0.5, 1, 2])
    assert (np.diff(inverse_log(pixels)) > 0).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["MODEL.CLASS_BALANCE", "rare"], "MODEL.CLASS_BALANCE is rare: want none, median_frequency or inverse_log"),
        (
            ["MODEL.CLASS_BALANCE", "inverse_log"],
            "MODEL.CLASS_WEIGHTS and MODEL.CLASS_BALANCE are both given: set the former to [], or the latter to none",
        ),
        (
            ["MODEL.CLASS_BALANCE", "inverse_log", "MODEL.CLASS_WEIGHTS", "[]", "DATASETS.TRAIN", "[]"],
            "MODEL.CLASS_BALANCE counts the labels of DATASETS.TRAIN, which is empty: set it to none",
        ),
    ],
)
def test_what_is_wrong(keys, message):
    with pytest.raises(UserError) as error:
        read_config(str(STUDENT), keys)
    assert str(error.value) == message
