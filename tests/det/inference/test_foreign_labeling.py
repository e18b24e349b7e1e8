"""densedist label det with detectors that Detectron2 does not build: their boxes become a COCO data set."""

import json
from pathlib import Path

import cv2
import pytest
import torch
from pycocotools.coco import COCO

import densedist
from densedist.common.data import digits
from densedist.common.locks import claimed
from densedist.det.foreign.transformers import load
from helpers import detectors
from helpers.calling import complaint
from helpers.calling import densedist as densedist_command
from helpers.tiny import SMALL, STUDENT

CLASSES = ["DATASETS.CLASSES", "['vehicle', 'person']"]
MAP = [*CLASSES, "DISTILL.TEACHER.CLASSES.vehicle", "['car', 'bus', 'truck']"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    detectors.write("rt-detr", found := tmp_path_factory.mktemp("detector"))
    return found


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    found = tmp_path_factory.mktemp("images")
    for number, file in enumerate(sorted(digits.images("val").glob("*.png"))[:2]):
        cv2.imwrite(str(found / f"{number}.png"), cv2.imread(str(file)))
    return found


def seen(detector, image):
    rgb = torch.from_numpy(cv2.imread(str(image))[..., ::-1].transpose(2, 0, 1).copy())
    return detector([{"image": rgb}])[0]["instances"]


def test_a_folder_of_transformers_needs_no_config(folder, images, tmp_path):
    """The image is not resized before its processor sees it, and is in RGB."""
    record = densedist.label([str(folder)], [images], output_dir=tmp_path / "out", score_threshold=0.5, task="det")
    detector = load(str(folder), "", (), 0.5, 100)
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    assert list(record["classes"]) == ["car", "bus", "truck", "person", "dog"]
    assert "left_out" not in record
    for number, image in enumerate(sorted(images.iterdir()), 1):
        wanted = seen(detector, image)
        ours = coco.imgToAnns[number]
        assert len(ours) == len(wanted) > 0
        x, y, width, height = torch.tensor([a["bbox"] for a in ours]).T
        torch.testing.assert_close(torch.stack([x, y, x + width, y + height], 1), wanted.pred_boxes.tensor)
        assert [a["score"] for a in ours] == pytest.approx(wanted.scores.tolist())


def test_classes_become_the_students_many_to_one(folder, images, tmp_path):
    """What is left out is said."""
    out = tmp_path / "out"
    densedist_command("label", "det", "--weights", folder, images, "--output-dir", out, "--score-threshold", 0.5, *MAP)
    record = json.loads((out / "labels.json").read_text())
    assert record["made_of"] == {"vehicle": ["car", "bus", "truck"], "person": ["person"]}
    assert record["left_out"] == ["dog"]
    detector = load(str(folder), "", (), 0.5, 100)
    names = [detector.names[c] for image in sorted(images.iterdir()) for c in seen(detector, image).pred_classes]
    wanted = {"vehicle": sum(name in ("car", "bus", "truck") for name in names), "person": names.count("person")}
    assert {name: known["labels"] for name, known in record["classes"].items()} == wanted


def test_the_teacher_of_a_students_config_labels_and_the_student_trains(folder, images, tmp_path):
    """Without a single true label."""
    student = tmp_path / "student.yaml"
    student.write_text(
        f"_BASE_: {STUDENT}\nMODEL: {{ROI_HEADS: {{NUM_CLASSES: 2}}}}\n"
        "DATASETS: {TRAIN: [], TEST: [], CLASSES: [vehicle, person]}\n"
        f"DISTILL: {{TEACHER: {{WEIGHTS: {folder}, CLASSES: {{vehicle: [car, bus, truck]}}}}}}\n"
    )
    words = ["--config-file", student, "--score-threshold", 0.5, *SMALL]
    densedist_command("label", "det", images, "--output-dir", tmp_path / "labels", *words)
    record = json.loads((tmp_path / "labels" / "labels.json").read_text())
    assert record["left_out"] == ["dog"]
    keys = {"DATASETS.PSEUDO_LABELED": [str(tmp_path / "labels")], "SOLVER.MAX_ITER": 1, "OUTPUT_DIR": tmp_path / "run"}
    keys |= dict(zip(SMALL[::2], SMALL[1::2], strict=True))
    densedist.train(str(student), keys)
    assert (tmp_path / "run" / "model_final.pth").is_file()
    assert "loss_dist" in (tmp_path / "run" / "metrics.json").read_text()  # its soft scores teach, too


def test_thresholds_are_chosen_on_the_students_data(folder, images, tmp_path):
    """A detector from elsewhere has no data of its own. Where its surest boxes are the truth, it chooses these."""
    truth, out = tmp_path / "truth", tmp_path / "out"
    words = ["label", "det", "--weights", folder, images]
    densedist_command(*words, "--output-dir", truth, "--score-threshold", 0.2, *MAP)
    test = ["DATASETS.COCO_FORMAT", f"[['sure', '{truth}/annotations.json', '']]", "DATASETS.TEST", "['sure']"]
    densedist_command(*words, "--output-dir", out, "--choose-thresholds", *MAP, *test)
    boxes = [
        sorted(
            (a["image_id"], a["category_id"], *a["bbox"]) for a in COCO(str(place / "annotations.json")).anns.values()
        )
        for place in (truth, out)
    ]
    assert boxes[0] == boxes[1] != []


def test_a_zero_shot_detector_is_asked_for_the_students_classes(images, tmp_path):
    detectors.write("owlv2", tmp_path / "owl")
    words = [*CLASSES, "DISTILL.TEACHER.CLASSES.vehicle", "['a car', 'a bus']"]
    out = tmp_path / "out"
    densedist_command("label", "det", "--weights", tmp_path / "owl", images, "--output-dir", out, *words)
    record = json.loads((out / "labels.json").read_text())
    assert record["made_of"] == {"vehicle": ["a car", "a bus"], "person": ["person"]}
    assert record["left_out"] == []
    assert sum(known["labels"] for known in record["classes"].values()) > 0


def test_predict_and_eval_by_a_config(folder, images, tmp_path):
    config = tmp_path / "model.yaml"
    config.write_text("TASK: det\nMODEL: {KIND: transformers, DEVICE: cpu}\n")
    words = ["--config-file", config, "--weights", folder, images, "--output-dir", tmp_path / "out"]
    densedist_command("predict", *words)
    assert {p["category_name"] for p in json.loads((tmp_path / "out" / "predictions.json").read_text())}


def test_what_cannot_label_is_refused_before_anything_is_written(folder, images, tmp_path, capsys):
    out = tmp_path / "out"

    def told(*words, weights=folder, task=("det",)):
        given = ["--weights", weights] if weights else []
        return complaint(capsys, "label", *task, *given, images, "--output-dir", out, *words)

    assert told(task=()).endswith("has no config that says the task: say det or seg")
    assert told(weights="") == "name teachers by --weights, or by --config-file a student whose teacher labels"
    lost = told(*CLASSES)
    assert lost.startswith("DISTILL.TEACHER.CLASSES: vehicle has no counterpart among the teacher's classes")
    wrong = told(*CLASSES, "DISTILL.TEACHER.CLASSES.vehicle", "['cars']")
    assert wrong.startswith("DISTILL.TEACHER.CLASSES: vehicle is made of cars, which the teacher does not have")
    unknown = told(*CLASSES, "DISTILL.TEACHER.CLASSES.bike", "['car']")
    assert unknown.startswith("DISTILL.TEACHER.CLASSES: the student has no class bike; its classes are vehicle, person")
    nobody = told("DISTILL.TEACHER.CLASSES.vehicle", "['car']")
    assert nobody == "DISTILL.TEACHER.CLASSES: name the classes of the labels, in order, in DATASETS.CLASSES"
    detectors.write("owl-vit", tmp_path / "owl")
    assert "finds what it is asked for: name the classes in DATASETS.CLASSES" in told(weights=tmp_path / "owl")
    nothing = [*MAP[:-1], "[' ']", "DISTILL.TEACHER.CLASSES.person", "['a person']"]
    assert "the prompt '' is empty, or there twice: want one for each class" in told(*nothing, weights=tmp_path / "owl")
    nobody_asks = told(*MAP[:-1], "[]", weights=tmp_path / "owl")
    assert nobody_asks.startswith("DISTILL.TEACHER.CLASSES: vehicle has no counterpart among the teacher's classes")
    with claimed(out, "--output-dir"):
        assert told().startswith(f"--output-dir: another process writes to {out}: wait until it has ended, or name ")
    assert not Path(out, "labels.json").exists()
    assert not list(out.glob("*"))
