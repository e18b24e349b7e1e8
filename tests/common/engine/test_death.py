"""A run that is killed and resumed ends bit for bit as one that never was: both tasks, at random moments."""

import json
import random
from itertools import count

import pytest
import torch

from helpers import scenes, tiny
from helpers.killing import differences, run

TRAINING = {
    "det": [
        *("--config-file", tiny.STUDENT, *tiny.SMALL, "DATASETS.TEST", "('digits_test',)"),
        *("DATASETS.UNLABELED", "('digits_train',)"),
    ],
    "seg": [
        *(
            "--config-file",
            scenes.STUDENT,
            *scenes.SMALL,
            "DATASETS.TEST",
            "['test']",
            "DATASETS.UNLABELED",
            "['train']",
        ),
    ],
}
COMMON = [
    *("SOLVER.MAX_ITER", "9", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "4"),
    *("SOLVER.ACCUMULATION_STEPS", "2", "SOLVER.EMA_DECAY", "0.9", "DISTILL.MIMIC.WEIGHT", "1.0"),
]


@pytest.fixture(scope="module", params=TRAINING)
def uninterrupted(request, tmp_path_factory):
    """(task, its arguments, the folder of a run without any mishap, the seconds that it took)."""
    folder = tmp_path_factory.mktemp(request.param)
    module = {"det": tiny, "seg": scenes}[request.param]
    argv = [*TRAINING[request.param], *COMMON, *module.save_teacher(folder / "teacher")]
    run(request.param, [])  # so that the time is without imports
    code, seconds = run(request.param, [*argv, "OUTPUT_DIR", folder / "whole"])
    assert code == 0
    return request.param, argv, folder / "whole", seconds


def die_and_resume(uninterrupted, folder, **death):
    task, argv, whole, _ = uninterrupted
    argv = [*argv, "OUTPUT_DIR", folder]
    code, _ = run(task, argv, **death)
    killed = code == -9
    assert killed or code == 0
    last = folder / "last_checkpoint"
    before = (folder / last.read_text()) if last.exists() else None
    if before:
        torch.load(before, weights_only=True)  # never half of one
    if killed:
        assert run(task, ["--resume", *argv])[0] == 0
    for name in ("model_final.pth", "model_best.pth"):
        both = [torch.load(f / name, weights_only=True) for f in (whole, folder)]
        for saved in both:
            saved.pop("iteration")  # that of a repeated evaluation is one more
        assert differences(*both) == [], name
    lines = [
        [json.loads(x)["iteration"] for x in (f / "metrics.json").read_text().splitlines()] for f in (whole, folder)
    ]
    assert len(set(lines[1])) == len(lines[1])
    assert not list(folder.glob("*.tmp"))
    return killed


def test_killed_while_it_writes_a_checkpoint(uninterrupted, tmp_path):
    assert die_and_resume(uninterrupted, tmp_path, dies_writing=(2, 0.6))


@pytest.mark.slow
def test_killed_at_a_random_moment(uninterrupted, tmp_path):
    die_and_resume(uninterrupted, tmp_path, kill_after=random.Random(0).uniform(0, uninterrupted[3]))


@pytest.mark.slow
def test_killed_twenty_times(uninterrupted, tmp_path):
    chance, kills, tries = random.Random(1), 0, count()
    while kills < 20:
        if kills % 4 == 0:
            death = {"dies_writing": (chance.randint(1, 6), chance.random())}
        else:
            death = {"kill_after": chance.uniform(0, uninterrupted[3])}
        kills += die_and_resume(uninterrupted, tmp_path / str(next(tries)), **death)
