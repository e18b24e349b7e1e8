"""Data sets of one's own scored by Pascal VOC's rules, beside Detectron2's evaluator on the same folder."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.pascal_voc import register_pascal_voc
from detectron2.structures import Boxes, Instances
from torch import nn

from densedist.common.errors import UserError
from densedist.det.data.registering import register_declared
from densedist.det.evaluation import check_rules, evaluate
from helpers.tiny import STUDENT, config

CLASSES = ["bird", "cat", "dog"]
SIZE = "<size><width>100</width><height>80</height><depth>3</depth></size>"


def write(root, count=6):
    """A folder in VOC's format; returns for each image its boxes and classes."""
    rng = np.random.default_rng(0)
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / name).mkdir(parents=True)
    everything = []
    for number in range(count):
        cv2.imwrite(str(root / "JPEGImages" / f"im{number}.jpg"), np.zeros((80, 100, 3), np.uint8))
        corner, size = rng.integers(1, 40, (4, 2)), rng.integers(10, 40, (4, 2))
        boxes = np.concatenate([corner, corner + size], 1)
        kinds, hard = rng.integers(0, 3, 4), rng.random(4) < 0.3
        text = "".join(
            f"<object><name>{CLASSES[k]}</name><pose>x</pose><truncated>0</truncated><difficult>{int(h)}</difficult>"
            f"<bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
            for k, h, (a, b, c, d) in zip(kinds, hard, boxes, strict=True)
        )
        (root / "Annotations" / f"im{number}.xml").write_text(f"<annotation>{SIZE}{text}</annotation>")
        everything.append((boxes, kinds))
    (root / "ImageSets" / "Main" / "test.txt").write_text("".join(f"im{n}\n" for n in range(count)))
    return everything


class Sees(nn.Module):
    """Boxes near those that are there, and some that are not, the same whoever asks."""

    def __init__(self, objects):
        super().__init__()
        self.objects = objects

    def forward(self, inputs):
        return [{"instances": self.found(sample)} for sample in inputs]

    def found(self, sample):
        number = int(sample["file_name"].rpartition("im")[2].removesuffix(".jpg"))
        rng = np.random.default_rng(number)
        boxes, kinds = self.objects[number]
        boxes = np.concatenate([boxes + rng.integers(-4, 5, boxes.shape), boxes[::-1] + 30]) - [1, 1, 0, 0]
        found = Instances((80, 100))
        found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
        found.pred_classes = torch.tensor(np.concatenate([kinds, kinds]))
        found.scores = torch.tensor(rng.permutation(len(boxes)) / 10 + 0.1)
        return found


@pytest.fixture
def objects(tmp_path):
    yield write(tmp_path / "voc")
    for name in ("theirs", "scored_by_voc", "scored_by_voc[:4]"):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def cfg_of(tmp_path, rules, test="('scored_by_voc',)", *more):
    cfg = config(
        STUDENT, "DATASETS.VOC_FORMAT", str([["scored_by_voc", str(tmp_path / "voc"), "test"]]), "DATASETS.TEST", test,
        "TEST.RULES", rules, "OUTPUT_DIR", tmp_path / "out", *more,
    )  # fmt: skip
    register_declared(cfg)
    return cfg


@pytest.mark.parametrize("year", [2007, 2012])
def test_scores_are_detectron2s(year, objects, tmp_path):
    register_pascal_voc("theirs", str(tmp_path / "voc"), "test", year, class_names=CLASSES)
    MetadataCatalog.get("theirs").evaluator_type = "pascal_voc"
    wanted = evaluate(config(STUDENT, "DATASETS.TEST", "('theirs',)", "OUTPUT_DIR", tmp_path), Sees(objects))
    found = evaluate(cfg_of(tmp_path, f"voc{year}"), Sees(objects))
    assert found["bbox"] == pytest.approx(wanted["bbox"], abs=1e-12)
    assert 20 < found["bbox"]["AP50"] < 90
    assert evaluate(cfg_of(tmp_path, "own"), Sees(objects))["bbox"]["AP50"] != pytest.approx(found["bbox"]["AP50"])


def test_a_part_and_some_images_of_it(objects, tmp_path):
    cfg = cfg_of(tmp_path, "voc2012", "('scored_by_voc[:4]',)")
    part = evaluate(cfg, Sees(objects))["bbox"]["AP50"]
    assert part != evaluate(cfg_of(tmp_path, "voc2012"), Sees(objects))["bbox"]["AP50"]
    (tmp_path / "voc" / "ImageSets" / "Main" / "test.txt").write_text("im0\nim1\nim2\nim3\n")
    assert evaluate(cfg_of(tmp_path, "voc2012"), Sees(objects))["bbox"]["AP50"] == part
    assert evaluate(cfg, Sees(objects), most=4)["bbox"]["AP50"] == part
    assert evaluate(cfg, Sees(objects), most=2)["bbox"]["AP50"] != part


@pytest.mark.usefixtures("objects")
def test_rules_that_a_data_set_cannot_have(tmp_path):
    with pytest.raises(UserError, match=r"TEST.RULES is voc2012, which is for boxes .* not for coco_2017_val or masks"):
        check_rules(cfg_of(tmp_path, "voc2012", "('coco_2017_val',)"))
    with pytest.raises(UserError, match=r"TEST.RULES is voc2007, .* not for scored_by_voc or masks: set it to own"):
        check_rules(cfg_of(tmp_path, "voc2007", "('scored_by_voc',)", "MODEL.MASK_ON", "True"))
    with pytest.raises(UserError, match=r"TEST.RULES is voc: want own, voc2007 or voc2012"):
        cfg_of(tmp_path, "voc")
