"""densedist label seg: what a teacher sees becomes labels that a student trains on."""

import json

import cv2
import numpy as np
import pytest
import torch

import densedist
from densedist.common.run_files import Weights
from densedist.seg.data.frames import frames
from densedist.seg.models import load_trained
from helpers.calling import complaint
from helpers.calling import densedist as densedist_command
from helpers.scenes import SMALL, STUDENT, save_teacher, write_tree

CLASSES = [{"name": str(n), "ids": [n + 7], "color": [n, n, n]} for n in range(3)]
DATA = [
    "MODEL.CLASS_WEIGHTS",
    "[]",
    "DATASETS.CLASSES",
    str(CLASSES),
    "DATASETS.IGNORED_IDS",
    "[0, 255]",
    "DATASETS.TEST",
    "['val']",
]


@pytest.fixture
def teachers(tmp_path):
    """Two of them, as files, with their data, and what each sees in an image."""
    data = [*DATA, "DATASETS.ROOT", str(write_tree(tmp_path / "data", "val", size=(48, 64), ids=(7, 8, 9)))]
    files = []
    for number in range(2):
        folder = tmp_path / f"teacher{number}"
        save_teacher(folder, *data, "MODEL.ARGS.decoder_channels", str(16 + 8 * number), "MODEL.ENCODER.WEIGHTS", "")
        files.append(str(folder / "weights.pth"))

    def probabilities(file, image):
        model = load_trained(Weights(file, file.replace("weights.pth", "config.yaml"), False)).model
        pixels = torch.from_numpy(np.ascontiguousarray(cv2.imread(str(image))[..., ::-1].transpose(2, 0, 1)))
        with torch.no_grad():
            return model([{"image": pixels}])[0]["sem_seg"].double().numpy()

    return files, data, probabilities


def pictures(folder, names):
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name in names:
        cv2.imwrite(str(folder / name), cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (64, 48)))
    return folder


def test_labels_are_the_highest_mean_probability(teachers, tmp_path):
    files, _, probabilities = teachers
    images = pictures(tmp_path / "images", ["a.png", "b.jpg"])
    means = [sum(probabilities(file, images / name) for file in files) / 2 for name in ("a.png", "b.jpg")]
    score = float(np.median([mean.max(0) for mean in means]))
    record = densedist.label(files, [images], output_dir=tmp_path / "out", score_threshold=score)
    for frame, mean, name in zip(
        frames(str(tmp_path / "out"), "train", "", True), means, ("a.png", "b.jpg"), strict=True
    ):
        found = cv2.imread(frame["label"], cv2.IMREAD_UNCHANGED)
        assert (found != np.where(mean.max(0) >= score, mean.argmax(0) + 7, 0)).mean() < 0.001  # float32
        np.testing.assert_array_equal(cv2.imread(frame["image"]), cv2.imread(str(images / name)))
    assert record["ignored"] == pytest.approx(0.5, abs=0.001)
    assert (tmp_path / "out/leftImg8bit/train/images/a_leftImg8bit.png").is_symlink()
    assert record == json.loads((tmp_path / "out" / "labels.json").read_text())
    assert record["images"] == 2
    shares = [known["labels"] for known in record["classes"].values()]
    assert sum(shares) + record["ignored"] == pytest.approx(1)


def test_a_student_trains_on_them(teachers, tmp_path):
    files, data, _ = teachers
    images = pictures(tmp_path / "images", ["a.png", "b.png"])
    densedist.label([files[0]], [images], output_dir=tmp_path / "out", score_threshold=0.0)
    keys = [*SMALL, *data, "SOLVER.MAX_ITER", "1", "DATASETS.TRAIN", str([str(tmp_path / "out" / "train")])]
    results = densedist.train(str(STUDENT), [*keys, "OUTPUT_DIR", str(tmp_path / "run")])
    assert results["sem_seg"]["mIoU"] >= 0


def test_without_an_ignored_id_a_free_one_is_taken(teachers, tmp_path, capsys):
    files, _, _ = teachers
    arguments = ["--weights", files[0], pictures(tmp_path / "images", ["a.png"]), "--output-dir", tmp_path / "out"]
    densedist_command("label", "seg", *arguments, "--score-threshold", "1", "DATASETS.IGNORED_IDS", "[]")
    said = capsys.readouterr().out
    assert "100.0 % of the pixels ignored; train on DATASETS.TRAIN" in said
    assert "DATASETS.IGNORED_IDS '[255]'" in said
    label = cv2.imread(str(tmp_path / "out/gtFine/train/images/a_gtFine_labelIds.png"), cv2.IMREAD_UNCHANGED)
    assert (label == 255).all()


def test_images_of_the_config(teachers, tmp_path):
    files, _, _ = teachers
    keys = {"DATASETS.UNLABELED": "['val[1:]']"}
    assert densedist.label([files[0]], (), keys, output_dir=tmp_path / "out")["images"] == 1


def test_thresholds_are_chosen_on_the_test_data(teachers, tmp_path, capsys):
    files, data, probabilities = teachers
    images = pictures(tmp_path / "images", ["a.png"])
    record = densedist.label([files[0]], [images], output_dir=tmp_path / "out", choose_thresholds=True)
    seen = [(probabilities(files[0], f["image"]), f) for f in frames(data[-1], "val", "", True)]
    scores = np.concatenate([p.max(0).ravel() for p, _ in seen])
    labels = np.concatenate([p.argmax(0).ravel() for p, _ in seen])
    truth = np.concatenate([cv2.imread(f["label"], cv2.IMREAD_UNCHANGED).ravel().astype(int) - 7 for _, f in seen])
    for number, known in enumerate(record["classes"].values()):
        made, right = labels == number, (labels == number) & (truth == number)

        def f1(score, made=made, right=right, number=number):
            kept = scores >= score
            return 2 * (right & kept).sum() / max((made & kept).sum() + (truth == number).sum(), 1)

        if known["score"] is None:
            assert not right.any()
        else:
            assert f1(known["score"]) >= max(f1(score) for score in np.linspace(0, 1, 101)) - 1e-6
    arguments = ["--weights", files[0], images, "--output-dir", tmp_path / "other"]
    said = complaint(capsys, "label", "seg", *arguments, "--choose-thresholds", "--score-threshold", "0.5")
    assert said == "--choose-thresholds takes the place of --score-threshold: give one of them"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to label: name images or folders, or DATASETS.UNLABELED"),
        (["--choose-thresholds", "DATASETS.TEST", "[]"], "--choose-thresholds: DATASETS.TEST has no labels to choose"),
    ],
)
def test_what_cannot_be_labeled(teachers, tmp_path, capsys, words, said):
    images = [pictures(tmp_path / "images", ["a.png"])] if words else []
    arguments = ["--weights", teachers[0][0], "--output-dir", tmp_path / "out"]
    assert complaint(capsys, "label", "seg", *arguments, *images, *words).startswith(said)
    assert not list((tmp_path / "out").glob("*"))


def test_teacher_of_another_task(teachers, tmp_path, capsys):
    said = complaint(capsys, "label", "det", "--weights", teachers[0][0], "--output-dir", tmp_path / "out")
    assert said.endswith("is of seg, not of det")
