"""The functions for notebooks: plain values in, plain data or a plain model out."""

import json

import cv2
import numpy as np
import pytest
from detectron2.modeling.meta_arch import GeneralizedRCNN
from segmentation_models_pytorch import PSPNet

import densedist
from helpers import scenes, tiny

SHORT = {"SOLVER.MAX_ITER": 2, "TEST.EXAMPLES": 0}


def mapping(words):
    return dict(zip(words[::2], words[1::2], strict=True))


@pytest.fixture(scope="module", params=["det", "seg"])
def run(request, tmp_path_factory):
    """Task, OUTPUT_DIR and results of a student that densedist.train has trained."""
    folder, task = tmp_path_factory.mktemp(request.param), request.param
    side, test = {"det": (tiny, "('digits_test',)"), "seg": (scenes, ["test"])}[task]
    keys = mapping(side.SMALL) | mapping(side.save_teacher(folder / "teacher")) | SHORT | {"DATASETS.TEST": test}
    results = densedist.train(str(side.STUDENT), keys | {"OUTPUT_DIR": folder / "run"})
    return task, folder / "run", results


def test_train_and_evaluate_give_the_results_that_they_write(run):
    task, folder, results = run
    before = (folder / "results.json").read_text()
    same = json.dumps(json.loads(before))  # as text, in which NaN is NaN
    assert json.dumps(results) == same
    assert {"det": "AP", "seg": "mIoU"}[task] in results[{"det": "bbox", "seg": "sem_seg"}[task]]
    assert json.dumps(densedist.evaluate(str(folder))) == same
    assert (folder / "results.json").read_text() == before
    assert (folder / "evaluation" / "results.json").read_text() == before


def test_a_finished_run_can_be_resumed_to_more_iterations(run):
    _, folder, _ = run
    densedist.train(str(folder / "config.yaml"), ["SOLVER.MAX_ITER", "3"], resume=True)
    assert "Starting training from iteration 2" in (folder / "log.txt").read_text()


def test_student_is_what_stock_libraries_build(run):
    task, folder, _ = run
    student = densedist.load_student(str(folder))
    assert type(student) is {"det": GeneralizedRCNN, "seg": PSPNet}[task]
    assert not student.training


def test_predictions_and_exports_are_plain_data(run, tmp_path):
    _, folder, _ = run
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 64, 3), 99, np.uint8))
    found = densedist.predict(str(folder), [tmp_path / "a.png"], output_dir=tmp_path / "seen")
    assert found == json.loads((tmp_path / "seen" / "predictions.json").read_text())
    done = densedist.export(str(folder), formats=["weights"], output_dir=tmp_path / "out", image_folder=tmp_path)
    assert done["failures"] == []
    assert done == json.loads((tmp_path / "out" / "export.json").read_text())


def test_comparison_is_plain_data(tmp_path):
    keys = mapping(scenes.SMALL) | SHORT | {"DATASETS.TEST": ["test"]}
    done = densedist.compare(str(scenes.STUDENT), keys, methods=["none"], seeds=[3], output_dir=tmp_path)
    assert json.dumps(done) == json.dumps(json.loads((tmp_path / "results.json").read_text()))
    assert list(done["methods"]["none"]["seeds"]) == ["3"]


def test_mistakes_are_user_errors():
    with pytest.raises(densedist.UserError, match=r"SOLVER\.MAX_ITER is 0: want 1 or more"):
        densedist.train("seg/digits/pspnet_r10_quarter.yaml", {"SOLVER.MAX_ITER": 0})
    with pytest.raises(densedist.UserError, match=r"--format: there is no format tflite"):
        densedist.export("x", formats=["tflite"])
    with pytest.raises(densedist.UserError, match="--budget is 0: want seconds of training steps, above 0"):
        densedist.tune("seg/digits/pspnet_r10_quarter.yaml", methods=["kd"], budget=0)
    with pytest.raises(AttributeError, match="module 'densedist' has no attribute 'trian'"):
        densedist.trian  # noqa: B018
