"""densedist label seg: what a teacher sees becomes labels that a student trains on."""

import errno
import json
import os
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import densedist
from densedist.common.errors import UserError
from densedist.common.labeling import Labeling
from densedist.common.run_files import Weights
from densedist.seg.data.frames import frames, scores_file
from densedist.seg.datasets import pseudo_labeled_frames
from densedist.seg.inference.labeling import label_images
from densedist.seg.models import load_trained
from helpers.calling import advised_keys, complaint
from helpers.calling import densedist as densedist_command
from helpers.labels import contents, in_processes, label_by, write_tar
from helpers.scenes import SMALL, STUDENT, config, save_teacher, write_tree

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


def test_a_teacher_looks_as_test_says_it_does(teachers, tmp_path):
    """TEST.FLIP: the mean over the image and its mirror image; windows and scales by the same way (windows.py)."""
    files, _, probabilities = teachers
    images = pictures(tmp_path / "images", ["a.png"])
    mirrored = tmp_path / "mirrored.png"
    cv2.imwrite(str(mirrored), cv2.imread(str(images / "a.png"))[:, ::-1])
    mean = (probabilities(files[0], images / "a.png") + probabilities(files[0], mirrored)[..., ::-1]) / 2
    score = float(np.median(mean.max(0)))
    densedist.label(files[:1], [images], {"TEST.FLIP": True}, output_dir=tmp_path / "out", score_threshold=score)
    (frame,) = frames(str(tmp_path / "out"), "train", "", True)
    found = cv2.imread(frame["label"], cv2.IMREAD_UNCHANGED)
    assert (found != np.where(mean.max(0) >= score, mean.argmax(0) + 7, 0)).mean() < 0.001  # float32
    alone = probabilities(files[0], images / "a.png")
    assert (found != np.where(alone.max(0) >= score, alone.argmax(0) + 7, 0)).mean() > 0.01


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
        scores = cv2.imread(scores_file(frame["label"]), cv2.IMREAD_UNCHANGED)
        assert np.abs(scores / 255 - mean.max(0)).max() <= 0.5 / 255 + 1e-5
        np.testing.assert_array_equal(cv2.imread(frame["image"]), cv2.imread(str(images / name)))
    assert record["ignored"] == pytest.approx(0.5, abs=0.001)
    for name in ("a_leftImg8bit.png", "b_leftImg8bit.jpg"):
        assert (tmp_path / "out/leftImg8bit/train/images" / name).is_symlink()
    assert record == json.loads((tmp_path / "out" / "labels.json").read_text())
    assert record["images"] == 2
    shares = [known["labels"] for known in record["classes"].values()]
    assert sum(shares) + record["ignored"] == pytest.approx(1)


def test_two_processes_one_of_which_is_killed_write_what_one_writes(teachers, tmp_path, monkeypatch):
    images = pictures(tmp_path / "images", [f"{n}.{'png' if n % 2 else 'jpg'}" for n in range(10)])
    densedist.label(teachers[0][:1], [images], output_dir=tmp_path / "whole")
    job = partial(label_by, teachers[0][0])
    assert not in_processes(2, job, images, tmp_path / "out", 0, 2, 0.5)
    assert in_processes(2, job, images, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "keys", [{}, {"TEST.FLIP": True, "TEST.WINDOW_SIZE": "[32, 32]"}, {"TEST.SCALES": "[0.5, 1.0]"}]
)
def test_images_of_one_size_in_a_batch_have_the_same_labels(teachers, tmp_path, keys):
    images = pictures(tmp_path / "images", [f"{n}.png" for n in range(3)])
    cv2.imwrite(str(images / "wide.png"), cv2.resize(cv2.imread(str(images / "0.png")), (80, 40)))
    for name, batch in (("one", 1), ("all", 4)):
        densedist.label(teachers[0], [images], keys, output_dir=tmp_path / name, score_threshold=0.0, batch=batch)
    for file in sorted((tmp_path / "one" / "gtFine").rglob("*_labelIds.png")):
        other = tmp_path / "all" / file.relative_to(tmp_path / "one")
        assert (cv2.imread(str(file), -1) != cv2.imread(str(other), -1)).mean() < 0.001, file  # float32


def test_a_teacher_labels_in_its_precision(teachers, tmp_path):
    """float16 on GPUs by default."""
    images = pictures(tmp_path / "images", ["0.png"])
    for precision in ("auto", "bfloat16"):
        keys = {"DISTILL.TEACHER.PRECISION": precision}
        densedist.label(teachers[0][:1], [images], keys, output_dir=tmp_path / precision)
    found = [cv2.imread(str(next((tmp_path / p).rglob("*_scores.png"))), -1).astype(int) for p in ("auto", "bfloat16")]
    apart = np.abs(found[0] - found[1])
    assert 0 < apart.max() < 10


def test_a_sheet_shows_what_was_written(teachers, tmp_path):
    """Whatever the images' format: PNG and JPEG are linked to, others are written anew."""
    images = pictures(tmp_path / "images", ["0.png", "1.jpg", "2.bmp"])
    densedist.label(teachers[0][:1], [images], output_dir=tmp_path / "out")
    text = (tmp_path / "out" / "labels.html").read_text()
    assert "3 images, " in text
    assert "of the pixels ignored." in text
    assert text.count("<figure>") == 6


def test_many_images_lie_in_several_folders(teachers, tmp_path, monkeypatch):
    monkeypatch.setattr("densedist.seg.inference.labeling.IN_ONE_FOLDER", 4)
    images = pictures(tmp_path / "images", [f"{n}.png" for n in range(5)])
    label_by(teachers[0][0], images, tmp_path / "out")
    found = frames(str(tmp_path / "out"), "train", "", True)
    assert [frame["name"] for frame in found] == ["0", "1", "2", "3", "4"]
    places = [Path(frame["label"]).relative_to(tmp_path / "out") for frame in found]
    assert [str(place.parent) for place in places] == ["gtFine/train/00000"] * 3 + ["gtFine/train/00001"] * 2


def test_images_of_a_tar_file(teachers, tmp_path):
    files = {file.name: file.read_bytes() for file in pictures(tmp_path / "images", ["0.png", "1.jpg"]).iterdir()}
    tar = write_tar(tmp_path / "shard.tar", files)
    densedist.label(teachers[0][:1], [tar], output_dir=tmp_path / "out", score_threshold=0.0)
    for frame, name in zip(frames(str(tmp_path / "out"), "train", "", True), ("0.png", "1.jpg"), strict=True):
        assert os.readlink(frame["image"]) == str(tmp_path / "out_images" / "shard" / name)
        np.testing.assert_array_equal(cv2.imread(frame["image"]), cv2.imread(str(tmp_path / "images" / name)))


def test_a_full_disk_is_said_in_one_line_and_nothing_is_lost(teachers, tmp_path, monkeypatch):
    """When a label is to be on the disk, or while the page for a human is drawn."""
    images = pictures(tmp_path / "images", ["0.png", "1.png"])
    job = partial(label_by, teachers[0][0], images, tmp_path / "out")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def sync(number, of_system=os.fsync):
        return full() if os.readlink(f"/proc/self/fd/{number}").endswith("labelIds.png") else of_system(number)

    for place, instead in (("os.fsync", sync), ("write_sheet", full)):
        with monkeypatch.context() as patch:
            patch.setattr(f"densedist.seg.inference.labeling.{place}", instead)
            with pytest.raises(UserError, match=r"cannot write to .*out: No space left on device: mend that, and --re"):
                job()
    assert job()["images"] == 2
    assert (tmp_path / "out" / "labels.html").is_file()
    assert len(frames(str(tmp_path / "out"), "train", "", True)) == 2


def test_what_was_written_of_an_image_is_removed_where_it_can_no_longer_be_read(teachers, tmp_path):
    images = pictures(tmp_path / "images", ["0.jpg", "1.jpg", "2.jpg", "3.jpg"])
    whole, job = (images / "1.jpg").read_bytes(), partial(label_by, teachers[0][0], max_unreadable=0.5)
    assert not in_processes(1, job, images, tmp_path / "out", 0, 1, 0.5)
    assert len(list(tmp_path.glob("out/gtFine/train/images/1_*"))) == 2
    (images / "1.jpg").write_bytes(whole[: len(whole) // 2])
    assert job(images, tmp_path / "out")["images"] == 3
    assert not list(tmp_path.glob("out/*/train/images/1_*"))
    assert [frame["name"] for frame in frames(str(tmp_path / "out"), "train", "", True)] == ["0", "2", "3"]


def test_a_student_trains_on_them(teachers, tmp_path):
    files, data, _ = teachers
    images = pictures(tmp_path / "images", ["a.png", "b.png"])
    densedist.label([files[0]], [images], output_dir=tmp_path / "out", score_threshold=0.0)
    labels = ["DATASETS.TRAIN", "[]", "DATASETS.PSEUDO_LABELED", str([str(tmp_path / "out" / "train")])]
    keys = [*SMALL, *data, "SOLVER.MAX_ITER", "1", *labels, "PSEUDO_LABELS.CONFIDENCE", "score"]
    results = densedist.train(str(STUDENT), [*keys, "OUTPUT_DIR", str(tmp_path / "run")])
    assert results["sem_seg"]["mIoU"] >= 0


def test_the_printed_key_adds_them_to_a_students_own_data(teachers, tmp_path, capsys, monkeypatch):
    """In a folder of one's own, and named from there."""
    monkeypatch.chdir(tmp_path)
    files, data, _ = teachers
    pictures(tmp_path / "images", ["a.png", "b.png"])
    densedist.label([files[0]], ["images"], output_dir="my labels", score_threshold=0.0)
    own = [*data, "DATASETS.TRAIN", "['val']"]
    config_file = str(Path(files[0]).parent / "config.yaml")
    own += ["DISTILL.TEACHER.WEIGHTS", str(files[0]), "DISTILL.TEACHER.CONFIG_FILE", config_file]
    keys = [*SMALL, *own, *advised_keys(capsys.readouterr().out), "SOLVER.MAX_ITER", "1"]
    densedist.train(str(STUDENT), keys)
    said = (tmp_path / "my labels_student" / "log.txt").read_text()
    assert "teacher  none: an ordinary training run" in said
    assert "pseudo-labeled" in said
    assert "my labels/train" in said


def test_without_an_ignored_id_a_free_one_is_taken(teachers, tmp_path, capsys):
    files, _, _ = teachers
    arguments = ["--weights", files[0], pictures(tmp_path / "images", ["a.png"]), "--output-dir", tmp_path / "out"]
    densedist_command("label", "seg", *arguments, "--score-threshold", "1", "DATASETS.IGNORED_IDS", "[]")
    said = capsys.readouterr().out
    assert "1 images, 100.0 % of the pixels ignored\n" in said
    record = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert (record["labeled_images"], 0 < record["highest_score"] < 1) == (0, True)
    assert f"; the highest score is {int(record['highest_score'] * 1000) / 1000:g}; give a lower threshold" in said
    assert said.splitlines()[-1].startswith("Nothing to train on: no score reaches the threshold; ")
    assert json.loads((tmp_path / "out" / "labels.json").read_text())["ignored_id"] == 255
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
    assert said == "--choose-thresholds replaces --score-threshold: give only one of them"


def test_classes_have_the_shares_of_the_training_data(teachers, tmp_path):
    files, _, probabilities = teachers
    images = pictures(tmp_path / "images", ["a.png", "b.png"])
    write_tree(tmp_path / "truth", ids=(7, 7, 7, 8, 9), size=(48, 64))
    words = {"DATASETS.ROOT": str(tmp_path / "truth"), "DATASETS.TRAIN": "['train']"}
    record = densedist.label([files[0]], [images], words, output_dir=tmp_path / "out", choose_thresholds="frequencies")
    truth = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) - 7 for file in (tmp_path / "truth").rglob("*_labelIds.png")]
    wanted = np.bincount(np.concatenate(truth).ravel(), minlength=3) / np.concatenate(truth).size
    seen = [probabilities(files[0], images / name) for name in ("a.png", "b.png")]
    classes, scores = (np.concatenate([getattr(p, kind)(0).ravel() for p in seen]) for kind in ("argmax", "max"))
    for number, known in enumerate(record["classes"].values()):
        of_class = scores[classes == number]
        shares = [(of_class >= least).sum() / classes.size for least in np.arange(1000) / 1000]
        nearest = min(abs(share - wanted[number]) for share in shares)
        assert abs(known["labels"] - wanted[number]) <= nearest + 0.002
    assert record["chosen_by"] == "frequencies"


def test_least_probability_of_a_precision(teachers, tmp_path):
    files, data, probabilities = teachers
    images = pictures(tmp_path / "images", ["a.png"])
    record = densedist.label([files[0]], [images], output_dir=tmp_path / "out", choose_thresholds="precision:0.35")
    seen = [(probabilities(files[0], f["image"]), f) for f in frames(data[-1], "val", "", True)]
    scores = np.concatenate([p.max(0).ravel() for p, _ in seen])
    labels = np.concatenate([p.argmax(0).ravel() for p, _ in seen])
    truth = np.concatenate([cv2.imread(f["label"], cv2.IMREAD_UNCHANGED).ravel().astype(int) - 7 for _, f in seen])
    for number, known in enumerate(record["classes"].values()):
        kept = [(labels == number) & (scores >= least) for least in np.arange(1000) / 1000]
        enough = [n / 1000 for n, k in enumerate(kept) if k.any() and (truth[k] == number).mean() >= 0.35]
        assert known["score"] == (pytest.approx(enough[0], abs=0.0011) if enough else None)


def test_a_band_is_for_detectors(teachers, tmp_path, capsys):
    images = pictures(tmp_path / "images", ["a.png"])
    words = ["--weights", teachers[0][0], images, "--output-dir", tmp_path / "out", "--ignore-threshold", "0.3"]
    said = complaint(capsys, "label", "seg", *words)
    assert said == "--ignore-threshold is for detectors: pixels below --score-threshold are ignored without it"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to label: name images or folders, or DATASETS.UNLABELED"),
        (["--choose-thresholds", "DATASETS.TEST", "[]"], "--choose-thresholds: DATASETS.TEST has no labels to choose"),
        (["--choose-by", "precision:0.8", "DATASETS.TEST", "[]"], "--choose-by precision:0.8: DATASETS.TEST has no la"),
    ],
)
def test_what_cannot_be_labeled(teachers, tmp_path, capsys, words, said):
    images = [pictures(tmp_path / "images", ["a.png"])] if words else []
    arguments = ["--weights", teachers[0][0], "--output-dir", tmp_path / "out"]
    assert complaint(capsys, "label", "seg", *arguments, *images, *words).startswith(said)
    assert not list((tmp_path / "out").glob("*"))


def test_teacher_of_another_task(teachers, tmp_path, capsys):
    said = complaint(capsys, "label", "det", "--weights", teachers[0][0], "--output-dir", tmp_path / "out")
    assert " is for segmentation, not for detection: " in said


def student(data, *classes, ignored="[0]"):
    """The config of a student with classes [name, id], in this order."""
    entries = [{"name": name, "ids": [i], "color": [i, i, i]} for name, i in classes]
    return config(STUDENT, *data, "DATASETS.CLASSES", entries, "DATASETS.IGNORED_IDS", ignored)


def labeled(files, images, output, cfg, **more):
    """The labels of an image that a teacher writes for a student."""
    given = Weights(files[0], files[0].replace("weights.pth", "config.yaml"), True)
    label_images(Labeling([given], {"a": images / "a.png"}, output, 0.0, student=cfg, **more))
    return cv2.imread(str(output / "gtFine/train/images/a_gtFine_labelIds.png"), cv2.IMREAD_UNCHANGED)


def test_labels_for_a_student_have_its_classes_by_their_names(teachers, tmp_path, caplog):
    """Whatever their order and ids; what it does not have is ignored, by its own ignored id."""
    files, data, probabilities = teachers
    images = pictures(tmp_path / "images", ["a.png"])
    theirs = probabilities(files[0], images / "a.png").argmax(0)
    cfg = student(data, ("2", 7), ("0", 8), ("1", 30))  # where the teacher has 7 for its class 0
    np.testing.assert_array_equal(
        labeled(files, images, tmp_path / "a", cfg), np.array([8, 30, 7])[theirs].astype(np.uint8)
    )
    record = json.loads((tmp_path / "a" / "labels.json").read_text())
    assert list(record["classes"]) == ["2", "0", "1"]
    cfg = student(data, ("2", 0), ("0", 255), ignored="[9]")  # the teacher's ignored id is a class
    np.testing.assert_array_equal(
        labeled(files, images, tmp_path / "b", cfg), np.array([255, 9, 0])[theirs].astype(np.uint8)
    )
    assert "the teacher's 1 is not labeled: the student has no such class" in caplog.text
    with pytest.raises(UserError, match=r"DISTILL.TEACHER.CLASSES: car has no counterpart among the teacher's classes"):
        labeled(files, images, tmp_path / "c", student(data, ("0", 7), ("car", 8)))
    labeled_by_map = [*data, "DISTILL.TEACHER.CLASSES.car", "['1', '2']"]
    summed = probabilities(files[0], images / "a.png")
    both = np.stack([summed[0], summed[1] + summed[2]]).argmax(0)
    found = labeled(files, images, tmp_path / "c", student(labeled_by_map, ("0", 7), ("car", 8)))
    np.testing.assert_array_equal(found, (both + 7).astype(np.uint8))


def test_a_look_writes_nothing(teachers, tmp_path):
    files, data, _ = teachers
    images = pictures(tmp_path / "images", ["a.png"])
    assert labeled(files, images, tmp_path / "out", student(data, ("0", 7), ("1", 8)), only_check=True) is None
    assert not (tmp_path / "out").exists()


def test_written_labels_mean_what_the_student_says(teachers, tmp_path):
    """Else roads would be learned as cars, in silence."""
    files, data, _ = teachers
    images, out = pictures(tmp_path / "images", ["a.png"]), tmp_path / "out"
    record = densedist.label([files[0]], [images], output_dir=out, score_threshold=0.0)
    name, number = next(iter(record["label_ids"].items()))
    train = ["DATASETS.PSEUDO_LABELED", f"['{out}/train']"]
    others = [("x", 100), ("y", 101)]
    rest = str([i for i in (0, 7, 8, 9) if i != number])
    assert len(pseudo_labeled_frames(student([*data, *train], (name, number), *others, ignored=rest))) == 1
    with pytest.raises(UserError) as refused:
        pseudo_labeled_frames(student([*data, *train], ("road", number), *others))
    assert str(refused.value) == (
        f"DATASETS.PSEUDO_LABELED: labelId {number} in {out} means {name} by {out}/labels.json, but road by "
        "DATASETS.CLASSES and IGNORED_IDS: give the teacher's config the names and ids of this one, and write the "
        "labels again"
    )
    with pytest.raises(
        UserError, match=f"labelId 0 in {out} means ignored by .*, but x by DATASETS.CLASSES and IGNORED"
    ):
        pseudo_labeled_frames(student([*data, *train], (name, number), ("x", 0), ignored="[]"))


def test_classes_without_a_threshold_are_named(teachers, tmp_path, caplog):
    files, data, _ = teachers
    root = data[-1]
    for file in (tmp_path / "data/gtFine/val/town").iterdir():
        cv2.imwrite(str(file), np.full((48, 64), 7, np.uint8))
    keys = {"DATASETS.ROOT": root, "DATASETS.TEST": "['val']"}
    densedist.label(
        [files[0]], [pictures(tmp_path / "i", ["a.png"])], keys, output_dir=tmp_path / "o", choose_thresholds=True
    )
    assert "--choose-thresholds: no label of 1, 2 will be written: " in caplog.text.replace("0, ", "")
