"""Batches of images with true labels, with a teacher's labels and without labels: their order and their shares."""

from itertools import islice

import pytest
import torch

from densedist.common.data.sides import MARK
from densedist.common.randomness import RunPosition
from densedist.det.data.registering import register_declared
from densedist.det.loader import training_batches as det_batches
from densedist.seg.loader import training_batches as seg_batches
from helpers import scenes, tiny

# By task: what makes its config, the name of images [from:to] of its training data, and its batches.
TASKS = {"seg": (scenes, "train[{}:{}]", seg_batches), "det": (tiny, "digits_train[{}:{}]", det_batches)}


def part(task, start, stop):
    return TASKS[task][1].format(start, stop)


def config(task, train, pseudo_labeled=(), *keys):
    """The config of a task with parts of its training data as true and as a teacher's labels."""
    helper = TASKS[task][0]
    named = [[part(task, *each) for each in side] for side in (train, pseudo_labeled)]
    words = ["DATASETS.TRAIN", str(named[0]), "DATASETS.PSEUDO_LABELED", str(named[1])]
    cfg = helper.config(helper.STUDENT, *words, "DATASETS.TEST", "[]", "SOLVER.MAX_ITER", "10", *keys)
    if task == "det":
        register_declared(cfg)
    return cfg


def batches(task, cfg, count, iteration=0, seed=3):
    return list(islice(TASKS[task][2](cfg)(RunPosition(seed, iteration)), count))


def known_by(sample):
    return sample.get("file_name", sample.get("name"))


def same(one, other):
    """Whether two samples are equal to the bit, but for the mark."""
    both = [{key: value for key, value in sample.items() if key != MARK} for sample in (one, other)]
    pixels = torch.equal(both[0].pop("image"), both[1].pop("image"))
    return pixels and str(both[0]) == str(both[1])


@pytest.mark.parametrize("task", TASKS)
def test_without_a_share_labels_are_drawn_as_if_they_were_in_train(task):
    apart = batches(task, config(task, [(0, 6)], [(6, 10)]), 8)
    together = batches(task, config(task, [(0, 6), (6, 10)]), 8)
    for one, other in zip(apart, together, strict=True):
        assert all(map(same, one, other))
    marked = {known_by(sample) for batch in apart for sample in batch if sample.get(MARK)}
    assert not any(MARK in sample for batch in together for sample in batch)
    assert len(marked) == 4
