"""densedist check: what is read of a user's data, counted and drawn."""

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from densedist.command.data import _picture_of
from densedist.common.data import digits
from densedist.common.report import panels
from densedist.common.report.panels import Panel
from densedist.seg.data.reading import Reader
from densedist.seg.datasets import training_frames
from densedist.seg.labels import IGNORE, Classes
from helpers import scenes, tiny
from helpers.calling import complaint, densedist


def lines(printed, start):
    """The cells of a line of a table, by its first words."""
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in printed.splitlines() if start in row]


def test_detection(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "photos" / "a.png")
    keys = ["DATASETS.TRAIN", "('digits_train[:5]',)", "DATASETS.UNLABELED", f"('{tmp_path / 'photos'}',)"]
    keys += ["DATASETS.PSEUDO_LABELED", "['digits_train[5:7]']"]
    densedist("check", "det", "--config-file", tiny.STUDENT, "--output-dir", tmp_path / "out", *tiny.SMALL, *keys)
    printed = capsys.readouterr().out
    assert lines(printed, "| PSEUDO_LABELED") == [["PSEUDO_LABELED", "2", "2", "128x128 (2)"]]
    assert lines(printed, "| TRAIN") == [["TRAIN", "5", "5", "128x128 (5)"]]
    assert lines(printed, "| UNLABELED") == [["UNLABELED", "1", "0", "20x30 (1)"]]
    wanted = [0] * 10
    for entry in DatasetCatalog.get("digits_train[:5]"):
        for annotation in entry["annotations"]:
            wanted[annotation["category_id"]] += 1
    names = MetadataCatalog.get("digits_train").thing_classes
    for number, (name, count) in enumerate(zip(names, wanted, strict=True)):
        (row,) = [row for row in lines(printed, f"| {number} ") if row[0] == str(number)]
        assert row[1:4] == [name, str(count), f"{100 * count / sum(wanted):.2f}"]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"digits_faster_rcnn_r10_quarter.png"}
    assert printed.endswith(f"{tmp_path / 'out' / 'digits_faster_rcnn_r10_quarter.png'}: images with their labels\n")


def test_segmentation(tmp_path, capsys):
    argv = ["check", "seg", "--config-file", scenes.STUDENT, "--output-dir", tmp_path / "out", *scenes.SMALL]
    more = ["DATASETS.PSEUDO_LABELED", "['train[3:5]']", "DATASETS.UNLABELED", "['train[3:]']"]
    densedist(*argv, "DATASETS.TRAIN", "['train[:3]']", *more)
    printed = capsys.readouterr().out
    assert lines(printed, "| PSEUDO_LABELED") == [["PSEUDO_LABELED", "2", "2", "128x128 (2)"]]
    assert lines(printed, "| TRAIN") == [["TRAIN", "3", "3", "128x128 (3)"]]
    assert lines(printed, "| UNLABELED")[0][1:3] == [str(digits.SCENES["train"] - 3), "0"]
    cfg = scenes.config(scenes.STUDENT, "DATASETS.TRAIN", "['train[:3]']")
    classes = Classes.of(cfg)
    read = Reader(classes, "RGB")
    total = sum(np.bincount(read(f)["sem_seg"].numpy().ravel(), minlength=256) for f in training_frames(cfg))
    for number, name in enumerate([*classes.names, "(ignored)"]):
        (row,) = [row for row in lines(printed, f"| {number} ") if row[0] == str(number)]
        assert row[1:3] == [name, str(total[IGNORE if name == "(ignored)" else number])]
    assert (tmp_path / "out" / f"digits_{scenes.STUDENT.stem}.png").is_file()


@pytest.mark.parametrize(
    ("config", "picture"),
    [
        ("student.yaml", "student.png"),
        ("../student.yaml", "student.png"),
        ("output/photos/student.yaml", "photos_student.png"),
        ("output/teacher/config.yaml", "teacher_config.png"),
    ],
)
def test_each_config_has_a_picture_of_its_own(config, picture):
    assert _picture_of(config) == picture


def test_what_is_wrong_is_one_line(tmp_path, capsys):
    argv = ["check", "det", "--config-file", tiny.STUDENT, "--output-dir", tmp_path / "out", *tiny.SMALL]
    assert "there is no data set nothing" in complaint(capsys, *argv, "DATASETS.TRAIN", "('nothing',)")
    empty = [x for side in ("TRAIN", "TEST") for x in (f"DATASETS.{side}", "()")]
    assert complaint(capsys, *argv, *empty) == "DATASETS.TRAIN, UNLABELED and TEST are empty: name the data"
    assert complaint(capsys, *argv, "OUTPUT_DIR", "elsewhere") == (
        "OUTPUT_DIR is a key of train and eval: give --output-dir D to this command"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("count", "wanted"), [(3, [3, 3]), (5, [5, 5]), (7, [5, 5, 5, 5])])
def test_many_columns_are_drawn_in_lines(count, wanted, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(panels, "draw_side_by_side", lambda found, *_: drawn.extend(found))
    columns = [
        [Panel(np.zeros((2, 2, 3), np.uint8), f"{n}"), Panel(np.zeros((2, 2, 3), np.uint8), "x")] for n in range(count)
    ]
    panels.draw_in_lines(columns, [], "", tmp_path / "a.png")
    assert [len(line) for line in drawn] == wanted
    seen = [panel.name for line in drawn[::2] for panel in line if panel.name]
    assert seen == [str(n) for n in range(count)]
