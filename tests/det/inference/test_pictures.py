"""densedist predict and visualize for detectors, and the pictures of models in memory."""

import copy
import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from pycocotools import mask as coco_mask

from densedist.common.data import digits
from densedist.common.distill.distiller import Distillation
from densedist.common.run_files import locate
from densedist.common.task import Trainee
from densedist.det.data.reading import read_input
from densedist.det.inference.pictures import _rule, draw_examples
from densedist.det.inference.samples import test_samples as samples_of_split
from densedist.det.inference.visualize import relations_of
from densedist.det.models import load_trained
from densedist.det.rcnn import DistillRCNN
from densedist.det.retinanet import DistillRetinaNet
from densedist.det.teacher.teacher import DetTeacher
from helpers.calling import complaint, densedist
from helpers.tiny import DIGITS, STUDENT, TEACHER, build_student, config, save_teacher

STUDENTS = {
    "rcnn": (STUDENT, DistillRCNN),
    "retinanet": (DIGITS / "retinanet_r10_quarter.yaml", DistillRetinaNet),
}


def run(folder, *overrides, file=STUDENT):
    save_teacher(folder, *overrides, file=file)
    (folder / "weights.pth").rename(folder / "model_final.pth")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """OUTPUT_DIRs of a teacher and of a student that learned from it."""
    root = tmp_path_factory.mktemp("runs")
    teacher = run(root / "teacher", file=TEACHER)
    node = "DISTILL.TEACHER"
    keys = [f"{node}.CONFIG_FILE", teacher / "config.yaml", f"{node}.WEIGHTS", teacher / "model_final.pth"]
    return {"teacher": teacher, "student": run(root / "student", *keys)}


@pytest.fixture
def images(tmp_path):
    """A folder with one image that is resized, and one of the test split."""
    folder = tmp_path / "images"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    cv2.imwrite(str(folder / "noise.png"), noise)
    shutil.copy(next(digits.images("test").iterdir()), folder / "scene.png")
    return folder


def test_predictions_are_those_of_the_default_predictor(runs, images, tmp_path, capsys):
    output = tmp_path / "out"
    densedist("predict", "--weights", runs["teacher"], "--output-dir", output, "--score-threshold", "0.2", images)
    assert all((output / f"{name}.png").stat().st_size > 1000 for name in ("noise", "scene"))
    written = json.loads((output / "predictions.json").read_text())
    assert f"{len(written)} objects in 2 images" in capsys.readouterr().out
    cfg = config(TEACHER, "MODEL.WEIGHTS", runs["teacher"] / "model_final.pth")
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.2
    predictor = DefaultPredictor(cfg)
    for number, name in enumerate(("noise", "scene")):
        image = cv2.imread(str(images / f"{name}.png"))
        wanted = predictor(image)["instances"]
        seen = [entry for entry in written if entry["image_id"] == number]
        assert len(wanted) == len(seen) > 0
        assert {entry["file_name"] for entry in seen} == {str(images / f"{name}.png")}
        for entry, box, score, kind, mask in zip(
            seen, wanted.pred_boxes, wanted.scores, wanted.pred_classes, wanted.pred_masks, strict=True
        ):
            x, y, right, bottom = box.tolist()
            assert entry["bbox"] == pytest.approx([x, y, right - x, bottom - y], abs=0.1)
            assert entry["score"] == pytest.approx(score.item(), abs=1e-3)
            assert (entry["category_id"], entry["category_name"]) == (kind.item(), str(kind.item()))
            assert (coco_mask.decode(entry["segmentation"]) != mask.numpy()).mean() < 0.01


def test_split_with_truth_and_teacher(runs, tmp_path):
    output = tmp_path / "out"
    few = ["--images", "1", "DATASETS.TEST", "('digits_test',)", "DATASETS.TRAIN", "('gone',)"]
    densedist("visualize", "--weights", runs["student"], "--output-dir", output, *few)
    first = min(digits.images("test").iterdir())
    assert {path.name for path in output.iterdir()} == {"overview.png", "relations.png", first.name}


def test_pictures_of_test_sets_with_files_of_the_same_name(runs, tmp_path, monkeypatch):
    """And of one that is named as the overview is; what they show does not matter here."""
    drawn = []
    monkeypatch.setattr(
        "densedist.det.inference.visualize.picture", lambda view, classes, file: drawn.append(file.stem)
    )
    monkeypatch.setattr("densedist.det.inference.visualize.overview", lambda *args: None)
    monkeypatch.setattr("densedist.det.inference.visualize.draw_relations", lambda *args: None)
    options = ["--weights", runs["student"], "--teacher", "none", "--output-dir", tmp_path / "out"]
    densedist("visualize", *options, "DATASETS.TEST", "('digits_val', 'digits_test')")
    names = sorted(file.stem for file in digits.images("val").iterdir())
    assert names == sorted(file.stem for file in digits.images("test").iterdir())
    assert drawn == [*names, *(f"{name}-2" for name in names)]
    drawn.clear()
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(min(digits.images("test").iterdir()), folder / "overview.png")
    densedist("visualize", *options, folder)
    assert drawn == ["overview-2"]


def test_folder_and_another_teacher(runs, images, tmp_path):
    output = tmp_path / "out"
    options = ["--weights", runs["student"] / "model_final.pth", "--teacher", runs["student"], "--output-dir", output]
    densedist("visualize", *options, "--images", "1", images)
    assert {path.stem for path in output.iterdir()} == {"noise", "overview", "relations"}


def test_other_models_beside_it(runs, tmp_path, monkeypatch):
    """Each as if it were drawn alone, by its own name and its own least score; the student last."""
    seen = {}

    monkeypatch.setattr(
        "densedist.det.inference.pictures.draw_overview", lambda columns, *_: seen.update(columns=columns)
    )
    monkeypatch.setattr("densedist.det.inference.pictures._rule", lambda scores, _: seen.update(scores=scores) or "")
    options = ["--weights", runs["student"], "--output-dir", tmp_path, "--images", 1]
    beside = ["--beside", f"same={runs['student']}", "--beside", f"large={runs['teacher']}"]
    densedist("visualize", *options, *beside, "DATASETS.TEST", "('digits_test',)")
    (panels,) = seen["columns"]
    assert [panel.name for panel in panels] == ["truth", "teacher", "same", "large", "student"]
    assert panels[2].note == panels[4].note != ""
    assert panels[1].note == panels[3].note
    scores = seen["scores"]
    assert list(scores) == ["teacher", "same", "large", "student"]
    assert (scores["same"], scores["large"]) == (scores["student"], scores["teacher"])


def test_teacher_that_is_gone_is_said_and_left_out(runs, images, tmp_path, caplog):
    gone = ["DISTILL.TEACHER.WEIGHTS", "gone.pth"]
    options = ["--weights", runs["student"], "--output-dir", tmp_path / "out"]
    densedist("visualize", *options, images, *gone)
    assert "the teacher is left out, as its weights gone.pth are not there: --teacher names another" in caplog.text
    assert (tmp_path / "out" / "relations.png").is_file()


@pytest.mark.parametrize(
    ("tool", "options", "message"),
    [
        ("predict", ["--score-threshold", "2", "IMAGES"], "--score-threshold is 2.0: want a number from 0 to 1"),
        ("predict", [], "no image is named: give files or folders"),
        ("predict", ["gone.png"], "gone.png does not exist"),
        ("visualize", ["--score-threshold", "-1"], "--score-threshold is -1.0: want a number from 0 to 1"),
        ("visualize", ["--images", "0"], "--images is 0: want 1 or more"),
        ("visualize", ["DATASETS.TEST", "()"], "DATASETS.TEST is empty: name the data set, or a folder"),
        ("visualize", ["--teacher", "gone", "IMAGES"], "--teacher: there is no file gone"),
        ("visualize", ["--beside", "gone"], '--beside is gone: want NAME=WEIGHTS, e.g. "alone=output/student"'),
        ("visualize", ["--beside", "a=gone"], "--beside a: there is no file gone"),
        ("visualize", ["--beside", "truth=gone"], "--beside: the name truth is already used: choose another one"),
    ],
)
def test_what_is_wrong_is_one_line(runs, images, capsys, tmp_path, tool, options, message):
    words = [str(images) if word == "IMAGES" else word for word in options]
    argv = ["--weights", runs["student"], "--output-dir", tmp_path / "out", *words]
    assert message in complaint(capsys, tool, *argv)
    assert not (tmp_path / "out").exists()


def test_image_that_is_damaged_inside(runs, images, tmp_path, capsys):
    file = images / "scene.png"
    content = bytearray(file.read_bytes())
    content[60:360] = b"\xff" * 300
    file.write_bytes(content)
    line = complaint(capsys, "predict", "--weights", runs["student"], "--output-dir", tmp_path / "out", file)
    assert f"{file} is damaged: " in line


@pytest.mark.drawn
@pytest.mark.parametrize("kind", STUDENTS)
def test_model_with_its_double_as_teacher(kind, tmp_path):
    """In memory, in training, the double in the other channel order and half as precise."""
    file, distilling = STUDENTS[kind]
    model = load_trained(locate(str(run(tmp_path / "run", file=file)))).model.train()
    cfg = config(file)
    double = copy.deepcopy(model)
    for buffer in (double.pixel_mean, double.pixel_std):
        buffer.copy_(buffer.flip(0))
    weight = next(p for p in double.backbone.parameters() if p.dim() == 4 and p.shape[1] == 3)
    weight.data = weight.data.flip(1)
    teacher = DetTeacher(double, flip_channels=True)
    samples = samples_of_split(cfg, 2)
    relations = relations_of(cfg, distilling, model.eval(), teacher, samples)
    np.testing.assert_allclose(relations.intra, 1, atol=1e-4)
    np.testing.assert_allclose(relations.student, relations.teacher, atol=1e-3)
    model.train()
    distillation = Distillation(DetTeacher(double, True, torch.bfloat16), None)
    cfg.TEST.EXAMPLES = 2
    gallery = draw_examples(cfg, Trainee(model, model, distillation), tmp_path / "examples.png")
    assert model.training
    which = "all 4 test images were compared. Shown: the 2 in which teacher and student differ most. Drawn: boxes with"
    assert gallery.title.startswith(which)
    assert [[panel.name for panel in panels] for panels in gallery.columns] == [["truth", "teacher", "student"]] * 2
    assert (tmp_path / "examples.png").stat().st_size > 10_000


def test_before_and_after_are_images_in_which_the_two_differ_most(runs, tmp_path):
    cfg = config(STUDENT)
    cfg.TEST.EXAMPLES = 1
    model = load_trained(locate(str(runs["student"]))).model
    before = {"none": locate(str(runs["teacher"]))}
    gallery = draw_examples(cfg, Trainee(model, model), tmp_path / "a.png", before, "dist")
    (panels,) = gallery.columns
    assert [panel.name for panel in panels] == ["truth", "none", "dist"]
    assert [entry.get_label() for entry in gallery.legend] == ["truth", "right", "wrong", "missed"]
    cfg.TEST.EXAMPLES = 4
    chosen = draw_examples(cfg, Trainee(model, model), tmp_path / "a.png", before, "dist").names
    assert chosen[0] == gallery.names[0]
    assert len(set(chosen)) == 4
    assert re.search(r"a score of at least (\d.\d\d \(none\) or .* \(dist\)|\d.\d\d[.,])", gallery.title)


def test_rows_of_relations(tmp_path):
    """Two-stage: the proposals, with background; one-stage: all anchors."""
    for kind, (file, distilling) in STUDENTS.items():
        cfg = config(file)
        model = build_student(cfg).eval()
        samples = samples_of_split(cfg, 1)
        relations = relations_of(cfg, distilling, model, None, samples)
        if kind == "rcnn":
            assert relations.student.shape == (11, 11)
            assert 0 < relations.rows <= cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE
        else:
            features = model.backbone(model.preprocess_image([read_input(cfg, samples[0].file)[0]]).tensor)
            anchors = model.anchor_generator([features[level] for level in model.head_in_features])
            assert relations.student.shape == (10, 10)
            assert relations.rows == sum(map(len, anchors))


@pytest.mark.parametrize(
    ("scores", "by_f1", "rule"),
    [
        ({"student": 0.3}, False, "boxes with a score of at least 0.30"),
        (
            {"student": 0.3},
            True,
            "boxes with a score of at least 0.30, the threshold with the highest F1 on these images:",
        ),
        (
            {"teacher": 0.4, "student": None},
            True,
            "0.40 (teacher) or 0.50 (student), the threshold with the highest F1 on these images: few wrong boxes and "
            "few missed objects. For student, no box is right at any score, so its threshold is 0.50",
        ),
        (
            {"student": None},
            True,
            "boxes with a score of at least 0.50. For student, no box is right at any score, so its threshold is",
        ),
        (
            {"none": None, "dist": None},
            True,
            "boxes with a score of at least 0.50. For none and dist, no box is right at any score, so their thresh",
        ),
    ],
)
def test_which_boxes_are_drawn_is_said(scores, by_f1, rule):
    assert rule in _rule(scores, by_f1)
