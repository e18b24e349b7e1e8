"""Each test set is scored by its own rules, on what its files say now, whatever ids they have."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.pascal_voc import register_pascal_voc
from detectron2.evaluation import PascalVOCDetectionEvaluator, inference_on_dataset
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import nn

from densedist.common.errors import UserError
from densedist.det import datasets
from densedist.det.data import registering
from densedist.det.evaluation import check_rules, evaluate, is_scored, metric
from helpers.coco import change, coco
from helpers.tiny import STUDENT, config


class Oracle(nn.Module):
    """Finds the given boxes [x0, y0, x1, y1, class] in an image, by the name of its file."""

    def __init__(self, boxes):
        super().__init__()
        self.boxes = boxes

    def forward(self, inputs):
        return [{"instances": self.found(Path(x["file_name"]).stem, (x["height"], x["width"]))} for x in inputs]

    def found(self, name, size):
        rows = torch.tensor(self.boxes.get(name, []), dtype=torch.float32).reshape(-1, 5)
        boxes, classes = Boxes(rows[:, :4]), rows[:, 4].long()
        return Instances(size, pred_boxes=boxes, pred_classes=classes, scores=torch.ones(len(rows)))


ALL = Oracle({"0": [[5, 5, 25, 25, 1]], "1": [[5, 5, 25, 25, 2]]})
HALF = Oracle({"0": [[5, 5, 25, 25, 1]]})
NONE = Oracle({})


def ids(first):
    content = coco()
    for number, annotation in enumerate(content["annotations"], first):
        annotation["id"] = number
    return content


def texts():
    content = coco()
    for kind, key in (("images", "image_id"), ("categories", "category_id")):
        for entry in content[kind]:
            entry["id"] = f"{kind}-{entry['id']}"
        for annotation in content["annotations"]:
            annotation[key] = f"{kind}-{annotation[key]}"
    return content


def bare(*keys):
    content = coco()
    for annotation in content["annotations"]:
        for key in keys:
            annotation.pop(key, None)
    return content


@pytest.fixture
def score(data, tmp_path):
    def call(content, model, *overrides):
        cfg = config(STUDENT, *data(content, "TEST"), "OUTPUT_DIR", tmp_path / "out", *overrides)
        registering.register_declared(cfg)
        return evaluate(cfg, model)["bbox"]

    return call


@pytest.mark.parametrize(
    "content",
    [ids(0), ids(1), bare("id"), bare("area", "iscrowd"), change("annotations", 0, area=-1), texts(), ids(7)],
    ids=["from 0", "from 1", "no ids", "no area, no iscrowd", "negative area", "texts", "from 7"],
)
def test_the_score_does_not_depend_on_how_ground_truth_is_written(score, content):
    assert score(content, ALL)["AP"] == pytest.approx(100, abs=0.01)
    half = score(content, HALF)
    assert half["AP"] == pytest.approx(50, abs=0.01), "one of two classes"
    assert (half["AP-1"], half["AP-2"]) == (pytest.approx(100), 0)


def test_finding_nothing_is_a_score_of_0(score):
    found = score(coco(), NONE)
    assert (found["AP"], found["AP50"], found["AP-1"]) == (0, 0, 0)
    assert np.isnan(found["AP-3"]), "of which there is no object"
    assert np.isnan(score(coco() | {"annotations": []}, NONE)["AP"])


def test_finding_no_masks_is_a_score_of_0(data, tmp_path):
    content = coco()
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[5, 5, 25, 5, 25, 25]]
    keys = [*data(content, "TEST"), "MODEL.MASK_ON", "True", "OUTPUT_DIR", tmp_path / "out"]
    cfg = config(STUDENT, *keys)
    registering.register_declared(cfg)
    found = evaluate(cfg, NONE)
    assert (found["bbox"]["AP"], found["segm"]["AP"]) == (0, 0)


def test_results_have_the_ids_of_the_file(score, tmp_path):
    score(coco(), HALF)
    (found,) = json.loads((tmp_path / "out/inference/coco_instances_results.json").read_text())
    assert (found["image_id"], found["category_id"]) == (0, 1)


def test_a_corrected_file_is_scored(data, tmp_path):
    cfg = config(STUDENT, *data(coco(), "TEST"), "OUTPUT_DIR", tmp_path / "out")
    registering.register_declared(cfg)
    assert evaluate(cfg, ALL)["bbox"]["AP"] == pytest.approx(100, abs=0.01)
    (tmp_path / "data_0" / "a.json").write_text(json.dumps(coco((40, 20, 20, 20))))
    assert evaluate(cfg, ALL)["bbox"]["AP"] == 0


def test_data_sets_of_another_form_are_converted_anew(data, tmp_path):
    cfg = config(STUDENT, *data(coco(), "TEST"), "OUTPUT_DIR", tmp_path / "out")
    registering.register_declared(cfg)
    dicts = DatasetCatalog.get("data_0")
    DatasetCatalog.remove("data_0")
    MetadataCatalog.remove("data_0")
    DatasetCatalog.register("data_0", lambda: dicts)
    MetadataCatalog.get("data_0").thing_classes = list("0123456789")
    assert evaluate(cfg, ALL)["bbox"]["AP"] == pytest.approx(100, abs=0.01)
    for d in dicts:
        d["annotations"][0]["bbox"] = [40, 20, 20, 20]
    assert evaluate(cfg, ALL)["bbox"]["AP"] == 0


def test_only_the_first_images_count_where_it_is_asked(data, tmp_path):
    cfg = config(STUDENT, *data(coco(), "TEST"), "OUTPUT_DIR", tmp_path / "out")
    registering.register_declared(cfg)
    assert evaluate(cfg, HALF, most=1)["bbox"]["AP"] == pytest.approx(100, abs=0.01)


def two(data, content):
    one, other = data(coco(), "TEST"), data(content, "TEST")
    entries = [json.loads(x[1].replace("'", '"'))[0] for x in (one, other)]
    return ["DATASETS.COCO_FORMAT", str(entries), "DATASETS.TEST", "('data_0', 'data_1')"]


def test_two_test_sets_have_their_own_scores_and_the_first_chooses_the_best(data, tmp_path):
    cfg = config(STUDENT, *two(data, coco((40, 20, 20, 20))), "OUTPUT_DIR", tmp_path / "out")
    registering.register_declared(cfg)
    found = evaluate(cfg, ALL)
    assert found["data_0"]["bbox"]["AP"] == pytest.approx(100, abs=0.01)
    assert found["data_1"]["bbox"]["AP"] == 0
    assert metric(cfg) == "data_0/bbox/AP"
    assert metric(config(STUDENT)) == "bbox/AP"
    assert is_scored(cfg)


NO_LABELS = {kind: entries for kind, entries in coco().items() if kind != "annotations"}


@pytest.mark.parametrize("content", [coco() | {"annotations": []}, NO_LABELS])
def test_test_sets_without_labels_are_seen(data, content):
    cfg = config(STUDENT, *two(data, content))
    registering.register_declared(cfg)
    assert not is_scored(cfg)


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ("coco_panoptic_seg", "is scored by the rules coco_panoptic_seg, but want one of coco, lvis, "),
        ("cityscapes_instance", "is scored by its masks: set MODEL.MASK_ON to True, or take another data set"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused(data, rules, wanted):
    cfg = config(STUDENT, *data(coco(), "TEST"))
    registering.register_declared(cfg)
    MetadataCatalog.remove("data_0")
    MetadataCatalog.get("data_0").set(evaluator_type=rules)
    with pytest.raises(UserError) as refused:
        check_rules(cfg)
    assert str(refused.value).startswith(f"DATASETS.TEST: data set data_0 {wanted}")


@pytest.mark.parametrize("side", ["TRAIN", "TEST"])
def test_data_sets_whose_package_is_not_here_are_refused_by_every_command(monkeypatch, side):
    monkeypatch.setattr(datasets, "find_spec", lambda package: None)
    cfg = config(STUDENT, f"DATASETS.{side}", "('lvis_v1_val',)", "MODEL.ROI_HEADS.NUM_CLASSES", "1203")
    check = datasets.test_dataset if side == "TEST" else datasets.check_datasets
    with pytest.raises(UserError) as refused:
        check(cfg)
    assert str(refused.value) == (
        f"DATASETS.{side}: data set lvis_v1_val needs the package lvis: install it, or take another data set"
    )


def test_ids_that_only_our_reader_counts(data):
    cfg = config(STUDENT, *data(texts(), "TEST"))
    registering.register_declared(cfg)
    check_rules(cfg)
    del MetadataCatalog.get("data_0").normalized
    with pytest.raises(UserError, match=r"not whole numbers, as pycocotools needs them: name it in"):
        check_rules(cfg)


@pytest.fixture
def voc(tmp_path):
    """Two images with a bicycle each, and one that is difficult to see."""
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    objects = [("bicycle", 0, [6, 6, 25, 25]), ("bird", 1, [40, 20, 60, 40])]
    for name in ("0", "1"):
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / f"JPEGImages/{name}.jpg")
        text = "".join(
            f"<object><name>{kind}</name><pose>x</pose><truncated>0</truncated><difficult>{hard}</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for kind, hard, (x0, y0, x1, y1) in objects
        )
        size = "<size><height>48</height><width>64</width></size>"
        (tmp_path / f"Annotations/{name}.xml").write_text(f"<annotation>{size}{text}</annotation>")
    (tmp_path / "ImageSets/Main/test.txt").write_text("0\n1\n")
    register_pascal_voc("tiny_voc", str(tmp_path), "test", 2007)
    MetadataCatalog.get("tiny_voc").evaluator_type = "pascal_voc"
    yield "tiny_voc"
    DatasetCatalog.remove("tiny_voc")
    MetadataCatalog.remove("tiny_voc")


def test_pascal_voc_is_scored_by_its_own_rules(voc, tmp_path):
    """Which do not ask for what is difficult; the number is that of Detectron2's own evaluator."""
    seen = Oracle({name: [[5, 5, 25, 25, 1]] for name in ("0", "1")})
    cfg = config(STUDENT, "DATASETS.TEST", f"('{voc}',)", "OUTPUT_DIR", tmp_path)
    found = evaluate(cfg, seen)
    loader = [[d] for d in DatasetCatalog.get(voc)]
    stock = inference_on_dataset(seen, loader, PascalVOCDetectionEvaluator(voc))
    assert found == stock
    assert found["bbox"]["AP50"] == pytest.approx(100 / 20), "one of VOC's 20 classes"
