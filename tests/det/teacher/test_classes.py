"""A teacher's class names come from its own config, whatever data set has that name here."""

import json
import logging
from pathlib import Path

import pytest
import yaml

from densedist.common.config import saved
from densedist.common.errors import UserError
from densedist.common.run_files import Weights
from densedist.det.data.classes import declared_classes
from densedist.det.datasets import check_datasets
from densedist.det.models import load_trained
from densedist.det.teacher_loading import load_teacher_model
from helpers.tiny import STUDENT, config, save_teacher

DIGITS = "0123456789"


def coco(file, classes):
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    file.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    return ["DATASETS.COCO_FORMAT", [[f"twice_{file.parent.name}", str(file), str(file.parent)]]]


@pytest.fixture
def student(tmp_path):
    """Makes a student of a data set whose name the teacher's config has, too."""

    def make(*words):
        name = f"('twice_{tmp_path.name}',)"
        cfg = config(STUDENT, *words, *coco(tmp_path / "mine.json", DIGITS), "DATASETS.TRAIN", name)
        cfg.DATASETS.CLASSES = check_datasets(cfg)
        return cfg

    return make


@pytest.fixture
def teacher(tmp_path):
    """Makes the keys of a teacher whose config is of a data set of that name."""

    def make(*words):
        return save_teacher(tmp_path / "teacher", "DATASETS.TRAIN", f"('twice_{tmp_path.name}',)", *words)

    return make


def test_a_config_that_names_neither_classes_nor_files_says_nothing(student, teacher, caplog):
    cfg = student(*teacher())
    with caplog.at_level(logging.INFO):
        assert load_teacher_model(cfg).classes is None
    said = "10 classes on both sides; their order is not checked, as the teacher's config does not name its own"
    assert said in caplog.messages


def test_classes_in_its_config_count_though_its_data_have_moved(student, teacher, caplog):
    keys = teacher("DATASETS.CLASSES", list(DIGITS))
    file = Path(keys[1])
    content = yaml.safe_load(file.read_text())
    content["DATASETS"]["COCO_FORMAT"] = [[content["DATASETS"]["TRAIN"][0], "gone.json", "gone"]]
    file.write_text(yaml.safe_dump(content))
    with caplog.at_level(logging.INFO):
        load_teacher_model(student(*keys))
    assert "student and teacher have the same 10 classes in the same order" in caplog.messages


def test_files_that_its_config_names_say_its_classes(student, teacher, tmp_path):
    keys = teacher(*coco(tmp_path / "theirs.json", reversed(DIGITS)))
    with pytest.raises(UserError, match="class 0 is 0 in the student's data set, 9 in the teacher's"):
        load_teacher_model(student(*keys))


def test_a_name_that_is_always_the_same_data_set_says_its_classes():
    assert declared_classes(config(STUDENT, "DATASETS.TRAIN", "('digits_train[:5]',)")) == list(DIGITS)
    assert declared_classes(config(STUDENT, "DATASETS.TRAIN", "('coco_2017_train',)"))[:2] == ["person", "bicycle"]
    assert declared_classes(config(STUDENT, "DATASETS.TRAIN", "('cityscapes_fine_instance_seg_train',)"))[0] == "person"
    assert declared_classes(config(STUDENT, "DATASETS.TRAIN", "()")) is None


def test_weights_beside_a_config_of_another_order_are_refused(student, teacher, tmp_path):
    keys = teacher("DATASETS.CLASSES", list(DIGITS))
    other = tmp_path / "other.yaml"
    other.write_text(saved(config(keys[1], "DATASETS.CLASSES", list(reversed(DIGITS)))))
    with pytest.raises(UserError, match=r"DISTILL.TEACHER.WEIGHTS: class 0 is 0 in .*config.yaml, 9 in DATASETS: give"):
        load_teacher_model(student(*keys, "DISTILL.TEACHER.CONFIG_FILE", str(other)))


def test_a_trained_detector_has_the_names_of_its_own_config(student, teacher, tmp_path):
    """A student's data set of that name may be looked up by now."""
    keys = teacher("DATASETS.CLASSES", [f"d{name}" for name in DIGITS])
    student(*keys)
    assert load_trained(Weights(keys[3], keys[1], trusted=False)).classes[0] == "d0"
