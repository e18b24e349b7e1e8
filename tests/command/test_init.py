"""densedist init: a folder of data, and the way from there to a distilled student."""

import shutil

import pytest
import torch
import yaml

from densedist.common.shell import command
from densedist.tasks import task_named
from helpers import folders
from helpers.calling import advised, complaint, densedist

DET = {
    folders.coco: "COCO_FORMAT",
    folders.coco_beside: "COCO_FORMAT",
    folders.yolo: "YOLO_FORMAT",
    folders.voc_boxes: "VOC_FORMAT",
}
SEG = {
    folders.masks: "FOLDERS",
    folders.masks_by_split: "FOLDERS",
    folders.camvid: "FOLDERS",
    folders.cityscapes: "ROOT",
    folders.voc_masks: "VOC_FORMAT",
    folders.ade20k: "ADE20K_FORMAT",
}
SHORT = ["SOLVER.MAX_ITER", "1", "DATALOADER.NUM_WORKERS", "0", "TEST.EVAL_PERIOD", "0", "TEST.EXAMPLES", "0"]
SHORT += ["REHEARSAL", "False"]
RANDOM = {"det": ["MODEL.TIMM.PRETRAINED", "False"], "seg": ["MODEL.ENCODER.WEIGHTS", ""]}  # no download
SMALL = {
    "det": ["MODEL.TIMM.NAME", "resnet10t", "MODEL.FPN.OUT_CHANNELS", "16"],
    "seg": ["MODEL.ENCODER.NAME", "tu-resnet10t"],
}


def base(output):
    return yaml.safe_load((output / "base.yaml").read_text())


def give_opinions(checkpoint):
    """A detector of one iteration is sure of nothing, and its labels would be empty."""
    content = torch.load(checkpoint)
    for name, value in content["model"].items():
        if name.endswith("cls_score.weight"):
            torch.nn.init.normal_(value, std=30.0)
    torch.save(content, checkpoint)


@pytest.mark.parametrize("write", [*DET, *SEG], ids=lambda write: write.__name__)
def test_data_of_each_format_is_found_and_read_as_the_configs_say(write, tmp_path, capsys):
    root, output = write(tmp_path / "photos"), tmp_path / "out"
    densedist("init", root, "--output-dir", output)
    check = advised(capsys.readouterr().out)[0]
    task, key = ("det", DET[write]) if write in DET else ("seg", SEG[write])
    assert check == ["check", "--config-file", str(output / "teacher.yaml")]
    assert base(output)["TASK"] == task
    assert key in base(output)["DATASETS"]
    assert {file.name for file in output.iterdir()} == {"base.yaml", "teacher.yaml", "student.yaml"}
    densedist(*check, "--output-dir", tmp_path / "check")
    images = 2 if write is folders.camvid else 5
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in printed.splitlines()]
    assert ["TRAIN", str(images), str(images)] in rows
    assert ["TEST", str(images), str(images)] in rows


@pytest.mark.parametrize(
    ("task", "write"), [pytest.param("det", folders.yolo, marks=pytest.mark.slow), ("seg", folders.masks)]
)
def test_every_command_that_is_printed_runs_as_it_stands(task, write, tmp_path, monkeypatch, capsys):
    """Shortened, with small backbones and from random weights; `pool` has images without labels."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "photos")
    folders.write_images(tmp_path / "photos" / "pool", 2, seed=9)
    densedist("init", task, "photos")
    steps = advised(capsys.readouterr().out)
    assert [step[0] for step in steps] == ["check", "train", "train", "label", "compare"]
    written = tmp_path / "output" / "photos"
    check, teach, distill, label, compare = steps
    densedist(*check)
    keys = [*SHORT, *RANDOM[task], *SMALL[task]]
    densedist(*teach, *keys)
    if task == "det":
        give_opinions(written / "teacher" / "model_final.pth")
    densedist(*distill, *keys)
    capsys.readouterr()
    densedist(*label)
    (on_labels,) = advised(capsys.readouterr().out)
    densedist(*on_labels, *keys)
    said = (written / "student_labels" / "log.txt").read_text()
    assert "pseudo-labeled" in said
    assert "teacher  none: an ordinary training run" in said
    densedist(*compare, "--seeds", "0", *keys)
    for file in ("teacher/report.html", "student/report.html", "labels/labels.json", "compare/report.html"):
        assert (written / file).is_file()
    assert {folder.name for folder in (written / "compare").iterdir() if folder.is_dir()} >= {
        "none",
        "dist",
        "dist+unlabeled",
        task_named(task).best,
    }


def test_images_without_labels_are_distilled_and_the_recommended_method_is_compared(tmp_path, capsys):
    root = folders.masks(tmp_path / "photos")
    folders.write_images(root / "pool", 2, seed=9)
    densedist("init", root, "--output-dir", tmp_path / "out")
    *_, distill, _, compare = advised(capsys.readouterr().out)
    assert distill[-2:] == ["DATASETS.UNLABELED", f"['{root / 'pool'}']"]
    assert compare[compare.index("--methods") + 1].split(",")[-1] == "best"


@pytest.mark.parametrize(("write", "name"), [(folders.coco, "photos_train"), (folders.masks, "train")])
def test_without_a_split_for_it_the_last_fifth_is_set_aside(write, name, tmp_path):
    densedist("init", write(tmp_path / "photos", splits=("train",)), "--output-dir", tmp_path / "out")
    data = base(tmp_path / "out")["DATASETS"]
    assert (data["TRAIN"], data["TEST"]) == ([f"{name}[:4]"], [f"{name}[4:]"])


def test_folders_without_a_name_of_a_split_are_trained_on(tmp_path):
    images = folders.write_images(tmp_path / "photos" / "images", 10)
    folders.write_masks(images, tmp_path / "photos" / "masks", (0, 1))
    densedist("init", tmp_path / "photos", "--output-dir", tmp_path / "out")
    assert base(tmp_path / "out")["DATASETS"]["TEST"] == ["train[8:]"]


def test_a_file_that_does_not_say_its_split_is_trained_on(tmp_path):
    folders.write_coco(tmp_path / "photos" / "boxes.json", folders.write_images(tmp_path / "photos" / "jpg", 10))
    densedist("init", tmp_path / "photos", "--output-dir", tmp_path / "out")
    data = base(tmp_path / "out")["DATASETS"]
    assert data["COCO_FORMAT"] == [["photos_train", f"{tmp_path}/photos/boxes.json", f"{tmp_path}/photos/jpg"]]
    assert data["TEST"] == ["photos_train[8:]"]


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "base.yaml").write_text("mine")
    message = complaint(capsys, "init", folders.coco(tmp_path / "photos"), "--output-dir", tmp_path / "out")
    assert message == f"--output-dir: {tmp_path / 'out'} already exists: name a new folder"
    assert (tmp_path / "out" / "base.yaml").read_text() == "mine"
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_refused_command_writes_nothing(tmp_path, capsys):
    folders.write_images(tmp_path / "photos")
    message = complaint(capsys, "init", "det", tmp_path / "photos", "--output-dir", tmp_path / "a" / "out")
    assert message.startswith(f"no data for detection is recognized in {tmp_path / 'photos'}: want COCO's JSON ")
    assert not (tmp_path / "a").exists()
    message = complaint(capsys, "init", tmp_path / "nowhere")
    assert message == f"FOLDER: there is no folder {tmp_path / 'nowhere'}"


def test_data_of_both_tasks_wants_the_task(tmp_path, capsys):
    root = folders.voc_masks(folders.voc_boxes(tmp_path / "photos"))
    message = complaint(capsys, "init", root, "--output-dir", tmp_path / "out")
    assert message == (
        f"{root} has data in Pascal VOC's format for det and Pascal VOC's format for seg: choose one, "
        f"as in {command('init', 'det', str(root))}"
    )
    assert not (tmp_path / "out").exists()
    densedist("init", "seg", root, "--output-dir", tmp_path / "out")
    assert "SegmentationClass" not in (tmp_path / "out" / "base.yaml").read_text()  # where VOC has it


def test_images_that_no_data_set_has_are_named_with_what_to_do(tmp_path, capsys):
    root = folders.yolo(tmp_path / "photos")
    folders.write_images(root / "more", 3)
    densedist("init", root, "--output-dir", tmp_path / "out")
    (note,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Note: ")]
    assert note == (
        f"Note: {root / 'more'}: its 3 images are in no data set; if they have no labels, train the student with "
        f"DATASETS.UNLABELED \"['{root / 'more'}']\", too"
    )


def test_an_image_that_the_annotations_leave_out_is_named(tmp_path, capsys):
    root = folders.coco(tmp_path / "photos")
    folders.write_images(root / "train2017", 6)
    densedist("init", root, "--output-dir", tmp_path / "out")
    assert (
        f"Note: {root / 'train2017'}: 1 of 6 images, first 5.jpg, are in no data set and are not used"
        in capsys.readouterr().out
    )


def test_a_split_that_cannot_be_read_is_left_out_and_named(tmp_path, capsys):
    root = folders.yolo(tmp_path / "photos")
    (root / "data.yaml").write_text((root / "data.yaml").read_text() + "test: images/test\n")
    densedist("init", root, "--output-dir", tmp_path / "out")
    printed = capsys.readouterr().out
    assert f"Note: {root / 'data.yaml'}: there is no {root / 'images/test'}: want a folder of images" in printed
    shutil.rmtree(root / "images")
    message = complaint(capsys, "init", "det", root, "--output-dir", tmp_path / "out2")
    assert f"there is no {root / 'images/train'}" in message
