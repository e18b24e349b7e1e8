"""Each loss, cache, precision and process group trains on a GPU: the short trainings of the benchmark."""

import math

import pytest
import torch

from benchmarks import runs
from benchmarks.det.models import save_random as save_detector
from benchmarks.seg.models import save_random as save_segmenter
from helpers.gpu import DEVICE, MARKS

pytestmark = MARKS
CASES = [
    pytest.param(pair, way, id=f"{pair.student}-{way.name}", marks=[pytest.mark.slow] * ("compiled" in way.name))
    for pair in runs.PAIRS
    for way in runs.ways(pair, torch.device(DEVICE))
]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    save = {"det": save_detector, "seg": save_segmenter}
    return {pair.name: save[pair.task](pair.teacher, folder / f"{pair.name}.pth") for pair in runs.PAIRS}


@pytest.mark.parametrize(("pair", "way"), CASES)
def test_it_trains(pair, way, teachers, tmp_path):
    words = {**runs.COMMON, **teachers[pair.name], "MODEL.DEVICE": DEVICE, "SOLVER.MAX_ITER": "3"}
    result = runs.train(pair, way, words, tmp_path / "run")
    assert result.failed == ""
    assert math.isfinite(result.loss)
