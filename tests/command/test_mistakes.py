"""Mistakes of people who try this for the first time: one line says what to do, and nothing changes.

Those that need a trained model are tested where that is: a teacher of other classes (tests/det/test_user_errors.py), a
run of other settings (tests/common/engine/test_run_folder.py), a missing package (tests/seg/inference/test_export.py).
"""

import shlex

import pytest

from helpers import folders, scenes
from helpers.calling import complaint, densedist

DET, SEG = "det/digits/faster_rcnn_r10_quarter.yaml", "seg/digits/pspnet_r10_quarter.yaml"
TRAIN_DET, TRAIN_SEG = f"train --config-file {DET}", f"train --config-file {SEG} MODEL.DEVICE cpu"
YOLO = """DATASETS.YOLO_FORMAT "[['mine', '{yaml}', 'train']]" DATASETS.TRAIN "['mine']" """
FOLDERS = """DATASETS.ROOT '' DATASETS.TEST [] DATASETS.TRAIN "['mine']" DATASETS.FOLDERS "[['mine', '{}', '{}']]" """


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A user's working folder, as the current one: data, two runs, a config of its own."""
    folders.yolo(tmp_path / "photos")
    town = folders.write_images(tmp_path / "town", 2)
    folders.write_masks(town, tmp_path / "town", (0, 1))
    folders.write_masks(town, tmp_path / "town_masks", (0, 1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "student.yaml").write_text(f"_BASE_: {SEG}\n")
    for task in ("det", "seg"):
        run = tmp_path / "output" / task
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(f"TASK: {task}\nOUTPUT_DIR: output/{task}\n")
        (run / "model_final.pth").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    return {file: file.read_bytes() if file.is_file() else None for file in folder.rglob("*")}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (f"{TRAIN_SEG} DISTILL.DIST.TEMPERATURE 4", "unknown config key DISTILL.DIST.TEMPERATURE in "),
        ("train --config-file studnet.yaml", "; did you mean student.yaml?"),
        ("train --config-file outptu/seg/config.yaml", "; did you mean output/seg/config.yaml?"),
        (
            f"{TRAIN_SEG} DISTILL.TEACHER.WEIGHTS output/sge/model_final.pth",
            "WEIGHTS: there is no file output/sge/model_final.pth; did you mean output/seg/model_final.pth?",
        ),
        ("eval --weights outptu/seg", "--weights: there is no file outptu/seg; did you mean output/seg?"),
        ("predict --weights output/seg photo/images", "photo/images does not exist; did you mean photos/images?"),
        ("init photo", "FOLDER: there is no folder photo; did you mean photos?"),
        ("prepare yolo photo", "FOLDER: there is no folder photo; did you mean photos?"),
        (
            f"{TRAIN_DET} " + YOLO.format(yaml="photo/data.yaml"),
            "DATASETS.YOLO_FORMAT, mine: there is no file photo/data.yaml; did you mean photos/data.yaml?",
        ),
        (f"{TRAIN_SEG} " + FOLDERS.format("twon", "town_masks"), "mine: there is no folder twon; did you mean town?"),
        (
            f"{TRAIN_DET} " + YOLO.format(yaml="photos/data.yaml"),
            "MODEL.ROI_HEADS.NUM_CLASSES is 10, but data set mine has 2 classes",
        ),
        (f"{TRAIN_SEG} " + FOLDERS.format("empty", "town_masks"), "empty has no image: want files that end in "),
        (
            f"{TRAIN_SEG} " + FOLDERS.format("town", "town"),
            "DATASETS.FOLDERS, mine: town has images and masks in one folder: move the masks to a folder of their own, "
            "town_masks, and name it",
        ),
        (f"train det --config-file {SEG}", "is for segmentation, not for detection: name one for detection, or "),
        (f"train seg --config-file {DET}", "is for detection, not for segmentation: name one for segmentation, or "),
        (
            f"{TRAIN_DET} DISTILL.TEACHER.WEIGHTS output/seg",
            "DISTILL.TEACHER.WEIGHTS: output/seg/config.yaml is for segmentation, not for detection",
        ),
        (
            f"{TRAIN_SEG} --resume OUTPUT_DIR output/det",
            "OUTPUT_DIR: output/det holds a run of detection, not of segmentation: name another OUTPUT_DIR, or with "
            "--resume that of a run of segmentation",
        ),
        (f"{TRAIN_DET} --resume OUTPUT_DIR output/seg", "output/seg holds a run of segmentation, not of detection: "),
        (
            f"{TRAIN_SEG} --resume OUTPUT_DIR output/seg",
            "OUTPUT_DIR: output/seg holds a run of another model, whose MODEL.ARCHITECTURE is DeepLabV3, not PSPNet: ",
        ),
        (
            f"{TRAIN_SEG} OUTPUT_DIR output/seg",
            "OUTPUT_DIR: output/seg holds a run: give --resume to continue it, name another OUTPUT_DIR, or remove the "
            "folder",
        ),
        (
            f"{TRAIN_SEG} OUTPUT_DIR student.yaml/run",
            "OUTPUT_DIR: cannot make student.yaml/run: student.yaml is no folder: name another folder",
        ),
        (
            "predict --weights output/seg town --output-dir student.yaml",
            "--output-dir: cannot write to student.yaml: student.yaml is no folder: name another folder",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_remedy_and_changes_nothing(place, capsys, line, wanted):
    before = contents(place)
    assert wanted in complaint(capsys, *shlex.split(line))
    assert contents(place) == before


def test_a_folder_that_is_write_protected(place, capsys, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: str(path) != "output")  # root may write anywhere
    said = complaint(capsys, *shlex.split(f"{TRAIN_SEG} OUTPUT_DIR output/new"))
    assert said == "OUTPUT_DIR: cannot make output/new: output is write-protected: name another folder"


def test_nothing_to_resume_and_a_schedule_within_its_warm_up_are_said_on_the_terminal_once(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("densedist.common.engine.train.on_terminal", lambda: True)
    keys = [*scenes.SMALL, "SOLVER.MAX_ITER", "1", "SOLVER.WARMUP_ITERS", "5", "DATASETS.TEST", "[]"]
    (tmp_path / "student").mkdir()
    (tmp_path / "student/model_final.pth").touch()
    densedist("train", "--config-file", scenes.STUDENT, "--resume", *keys, "OUTPUT_DIR", tmp_path / "studnet")
    printed = capsys.readouterr().out
    said = f"--resume: there is no checkpoint in {tmp_path}/studnet: starting from the beginning; did you mean "
    assert printed.count(f"{said}{tmp_path}/student?") == 1
    assert printed.count("\nwarning: SOLVER.MAX_ITER, 1, ends within SOLVER.WARMUP_ITERS, 5: ") == 1
