"""Several splits in DATASETS.TEST: each is scored by itself, and the first one chooses the best student."""

import json

import pytest
import torch

from densedist.common.data import digits
from densedist.common.engine.train import evaluate, train
from densedist.common.errors import UserError
from densedist.seg.checks import check_data
from densedist.seg.evaluation import is_scored, metric
from densedist.seg.models import load_config
from densedist.seg.task import TASK
from helpers.scenes import SMALL, STUDENT, config


@pytest.fixture
def sets():
    """A slice of a split, and one of a split that is named by a path."""
    return ["test[:3]", f"{digits.ensure()}/val[:2]"]


def cfg_of(output, test, *keys):
    given = ["DATASETS.TEST", str(test), "OUTPUT_DIR", str(output), "SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "1"]
    return load_config(str(STUDENT), [*SMALL, *given, *keys])


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_each_has_the_scores_that_it_has_alone(sets, tmp_path):
    train(cfg_of(tmp_path / "run", sets, "TEST.SAVE_LABEL_IDS", "True"), TASK)
    both, weights = results(tmp_path / "run"), str(tmp_path / "run" / "model_final.pth")
    assert list(both) == sets
    for number, name in enumerate(sets):
        evaluate(cfg_of(tmp_path / str(number), [name]), TASK, weights, "--weights")
        assert results(tmp_path / str(number)) == both[name]
    assert both[sets[0]] != both[sets[1]]
    # What is written about one is not written over by the other.
    folders = sorted((tmp_path / "run" / "inference").iterdir())
    assert [len(list((folder / "labelIds").iterdir())) for folder in folders] == [2, 3]
    assert all((folder / "confusion.png").is_file() for folder in folders)
    best = torch.load(tmp_path / "run" / "model_best.pth", weights_only=True)["metric"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.json").read_text().splitlines()]
    assert list(best) == ["test[:3]/sem_seg/mIoU"]
    assert best["test[:3]/sem_seg/mIoU"] == max(line.get("test[:3]/sem_seg/mIoU", 0) for line in lines)


def test_names_of_the_metric():
    names = [metric(config(STUDENT, "DATASETS.TEST", test)) for test in ("[]", "['val']", "['val', 'test']")]
    assert names == ["sem_seg/mIoU", "sem_seg/mIoU", "val/sem_seg/mIoU"]


def test_a_split_without_labels_is_no_split_to_compare_on(tmp_path):
    bare = tmp_path / "leftImg8bit" / "bare" / "town"
    bare.mkdir(parents=True)
    image = next((digits.ensure() / "leftImg8bit" / "val").rglob("*.png"))
    (bare / "town_000000_000000_leftImg8bit.png").write_bytes(image.read_bytes())
    sets = (["val", "test"], ["val", f"{tmp_path}/bare"], [f"{tmp_path}/bare"], [])
    assert [is_scored(config(STUDENT, "DATASETS.TEST", str(test))) for test in sets] == [True, False, False, False]


def test_one_that_is_named_twice():
    with pytest.raises(UserError, match=r"^DATASETS.TEST: data set val is named twice: name it once$"):
        check_data(config(STUDENT, "DATASETS.TEST", "['val', 'val']"))
