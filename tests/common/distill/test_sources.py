"""Batches of images with true labels, with a teacher's labels and without labels: their order and their shares."""

from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from densedist.common.data.sides import MARK
from densedist.common.distill import sources
from densedist.common.distill.sources import check_sources, in_words, pseudo_labeled_images
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition
from densedist.det.data.registering import register_declared
from densedist.det.loader import training_batches as det_batches
from densedist.seg.config import GRAMMAR
from densedist.seg.loader import training_batches as seg_batches
from helpers import scenes, tiny
from helpers.processes import run_processes

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


HALF = ("PSEUDO_LABELS.SHARE", "0.5", "SOLVER.IMS_PER_BATCH", "4")


def marks(batch):
    return [MARK in sample for sample in batch]


@pytest.mark.parametrize("task", TASKS)
def test_each_batch_has_the_share_exactly(task):
    """Whatever the sources' sizes; each goes through its images in an order of its own."""
    found = batches(task, config(task, [(0, 6)], [(6, 8)], *HALF), 12)
    assert [marks(batch) for batch in found] == [[False, False, True, True]] * 12
    true, written = ([known_by(x) for batch in found for x in batch if (MARK in x) == side] for side in (False, True))
    assert (len(set(true)), len(set(written))) == (6, 2)
    assert all(set(written[n : n + 2]) == set(written) for n in range(0, 24, 2))
    assert all(sorted(true[n : n + 6]) == sorted(set(true)) for n in range(0, 24, 6))


@pytest.mark.parametrize("task", TASKS)
def test_the_last_iterations_are_of_true_labels_alone_and_any_of_them_is_entered_the_same(task):
    """Also with a worker that reads ahead of the change, and with parts of a batch."""
    last = [*HALF, "SOLVER.TRUE_LABELS_LAST", "0.4", "SOLVER.ACCUMULATION_STEPS", "2"]
    cfg = config(task, [(0, 6)], [(6, 10)], *last)
    whole = batches(task, cfg, 20)
    assert [sum(marks(batch)) for batch in whole] == [1] * 12 + [0] * 8
    assert {len(batch) for batch in whole} == {2}
    with_worker = config(task, [(0, 6)], [(6, 10)], *last, "DATALOADER.NUM_WORKERS", "1")
    for read, iteration in ((cfg, 1), (cfg, 6), (cfg, 9), (with_worker, 0), (with_worker, 5)):
        there = batches(task, read, 20 - 2 * iteration, iteration)
        assert all(all(map(same, *pair)) for pair in zip(there, whole[2 * iteration :], strict=True))


def test_unlabeled_images_end_with_the_labels_of_a_teacher(tmp_path):
    unlabeled = ["DATASETS.UNLABELED", f"['{part('seg', 8, 10)}']", "SOLVER.TRUE_LABELS_LAST", "0.5"]
    cfg = config("seg", [(0, 4)], [(4, 8)], *HALF, *unlabeled, *scenes.save_teacher(tmp_path))
    kinds = [["sem_seg" in x for x in batch] for batch in batches("seg", cfg, 10)]
    assert kinds == [[True] * 4 + [False] * 4] * 5 + [[True] * 4] * 5


@pytest.mark.parametrize("task", TASKS)
def test_unlabeled_images_are_in_no_fixed_pairs_with_as_many_labeled_ones(task, tmp_path):
    """Labeled images come in the order that they have without unlabeled ones."""
    one = ("SOLVER.IMS_PER_BATCH", "1")
    teacher = TASKS[task][0].save_teacher(tmp_path)
    unlabeled = ("DATASETS.UNLABELED", f"['{part(task, 4, 8)}']", *teacher)
    found = batches(task, config(task, [(0, 4)], [], *one, *unlabeled), 24)
    assert len({tuple(map(known_by, batch)) for batch in found}) > 8
    alone = batches(task, config(task, [(0, 4)], [], *one), 24)
    assert all(same(batch[0], other[0]) for batch, other in zip(found, alone, strict=True))


def of_processes(rank, world, folder):
    """Each process has its share of both sources, and together they see what one would."""
    cfg = config("seg", [(0, 6)], [(6, 10)], "SOLVER.TRUE_LABELS_LAST", "0.4", *HALF)
    found = batches("seg", cfg, 10)
    assert [marks(batch) for batch in found] == [[False, True]] * 6 + [[False, False]] * 4
    torch.save([[known_by(x) for x in batch] for batch in found], folder / f"{rank}.pth")


def test_processes_together_have_what_one_would(tmp_path):
    run_processes(2, of_processes, tmp_path)
    cfg = config("seg", [(0, 6)], [(6, 10)], "SOLVER.TRUE_LABELS_LAST", "0.4", *HALF)
    one = [[known_by(x) for x in batch] for batch in batches("seg", cfg, 10)]
    ranks = [torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == list(map(sorted, one))


def test_detectrons_samplers_draw_within_each_source():
    """By factors of data sets on both sides, as TRAIN_REPEAT_FACTOR names them."""
    weighted = ["DATALOADER.SAMPLER_TRAIN", "WeightedTrainingSampler", "DATASETS.TRAIN_REPEAT_FACTOR"]
    weighted.append(str([[part("det", 6, 7), 9.0], [part("det", 0, 1), 3.0]]))

    def seen(*keys):
        cfg = config("det", [(0, 1), (1, 2)], [(6, 7), (7, 8)], *weighted, *keys)
        names = [known_by(x) for batch in batches("det", cfg, 60) for x in batch]
        return [names.count(name) / len(names) for name in sorted(set(names))]

    assert seen() == pytest.approx([3 / 14, 1 / 14, 9 / 14, 1 / 14], abs=0.03)
    assert seen(*HALF) == pytest.approx([3 / 8, 1 / 8, 9 / 20, 1 / 20], abs=0.03)
    assert seen("SOLVER.TRUE_LABELS_LAST", "0.99") == pytest.approx([0.75, 0.25], abs=0.05)


@pytest.mark.parametrize(
    ("images", "parts", "processes", "share", "wanted"),
    [
        (8, 1, 1, 0.25, 2),
        (8, 2, 2, 0.5, 4),
        (6, 1, 1, 0.33, 2),
        (4, 1, 1, 0.3, "the 4 of SOLVER.IMS_PER_BATCH 4 on each of 1 process(es): want 0.25 or 0.5"),
        (8, 2, 2, 0.25, "the 2 of SOLVER.IMS_PER_BATCH 8 on each of 2 process(es) in each of 2 parts: want 0.5"),
        (8, 1, 1, 0.99, "the 8 of SOLVER.IMS_PER_BATCH 8 on each of 1 process(es): want 0.875"),
        (2, 1, 2, 0.5, "SOLVER.IMS_PER_BATCH 2 on each of 2 process(es): raise SOLVER.IMS_PER_BATCH, or set it to 0"),
    ],
)
def test_a_share_of_whole_images(monkeypatch, images, parts, processes, share, wanted):
    monkeypatch.setattr(sources, "comm", SimpleNamespace(get_world_size=lambda: processes))
    keys = ["PSEUDO_LABELS.SHARE", share, "SOLVER.IMS_PER_BATCH", images, "SOLVER.ACCUMULATION_STEPS", parts]
    cfg = scenes.config(scenes.STUDENT, *keys)
    if isinstance(wanted, int):
        assert pseudo_labeled_images(cfg) == wanted
        return
    with pytest.raises(UserError) as refused:
        pseudo_labeled_images(cfg)
    assert str(refused.value).startswith(f"PSEUDO_LABELS.SHARE is {share}, ")
    assert str(refused.value).endswith(wanted)


@pytest.mark.parametrize(
    ("train", "labels", "keys", "wanted"),
    [
        (
            [(0, 2)],
            [],
            HALF,
            "PSEUDO_LABELS.SHARE is set, but DATASETS.PSEUDO_LABELED is empty: name data, or leave it",
        ),
        ([], [(0, 2)], HALF, "PSEUDO_LABELS.SHARE is set, but DATASETS.TRAIN is empty: name data, or leave it out"),
        ([(0, 2)], [], ("PSEUDO_LABELS.WEIGHT", "0.5"), "PSEUDO_LABELS.WEIGHT is set, but DATASETS.PSEUDO_LABELED is"),
        (
            [],
            [(0, 2)],
            ("SOLVER.TRUE_LABELS_LAST", "0.5"),
            "SOLVER.TRUE_LABELS_LAST is set, but DATASETS.TRAIN is empt",
        ),
        (
            [(0, 2)],
            [],
            ("SOLVER.TRUE_LABELS_LAST", "0.5"),
            "SOLVER.TRUE_LABELS_LAST is set, but DATASETS.PSEUDO_LABELED and UNLABELED are empty: name data, or leave",
        ),
        ([], [], (), "DATASETS.TRAIN is empty: name the training data"),
        (
            [(0, 2)],
            [(0, 2)],
            (),
            "DATASETS.PSEUDO_LABELED: train[0:2] is in DATASETS.TRAIN, too: name it in one of them",
        ),
    ],
)
def test_sources_that_are_not_there(train, labels, keys, wanted):
    with pytest.raises(UserError) as refused:
        check_sources(config("seg", train, labels, *keys), GRAMMAR.keys())
    assert str(refused.value).startswith(wanted)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("PSEUDO_LABELS.SHARE", "1.0", "want a share from 0 to below 1"),
        ("PSEUDO_LABELS.WEIGHT", "-0.5", "want 0 (nothing) or more"),
        ("SOLVER.TRUE_LABELS_LAST", "1.0", "want a share from 0 to below 1"),
    ],
)
def test_values_out_of_range(key, value, wanted):
    with pytest.raises(UserError) as refused:
        scenes.config(scenes.STUDENT, key, value)
    assert str(refused.value) == f"{key} is {value}: {wanted}"


def test_the_plan_says_how_they_are_trained_on():
    cfg = config("seg", [(0, 6)], [(6, 8)], *HALF, "PSEUDO_LABELS.WEIGHT", "0.3", "SOLVER.TRUE_LABELS_LAST", "0.2")
    assert in_words(cfg) == [
        "pseudo-labeled images: 2 of 4 images of a batch; their gradient times 0.3",
        "DATASETS.TRAIN alone from iteration 8 on",
    ]
    assert in_words(config("seg", [(0, 6)], [(6, 8)])) == ["pseudo-labeled images: drawn as often as images of TRAIN"]
    assert in_words(config("seg", [(0, 6)])) == []
