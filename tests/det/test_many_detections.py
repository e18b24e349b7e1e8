"""TEST.DETECTIONS_PER_IMAGE above what the rules score is passed on to the scorer; crowds count where masks do."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from densedist.det.data import registering
from densedist.det.evaluation import evaluate
from densedist.det.evaluators import coco_evaluator, most_detections
from helpers.coco import CLASSES, coco
from helpers.tiny import STUDENT, config

OBJECTS = 130


def grid():
    """130 objects of one class in the first of two images."""
    content = coco()
    boxes = [[x, y, 3.0, 3.0] for x in range(0, 60, 4) for y in range(0, 46, 4)][:OBJECTS]
    content["annotations"] = [{"id": n, "image_id": 0, "category_id": 1, "bbox": b} for n, b in enumerate(boxes, 1)]
    return content


class Finds(nn.Module):
    """The objects of image 0, each a little aside."""

    def __init__(self, boxes, masks=False):
        super().__init__()
        rng = np.random.default_rng(0)
        self.boxes = torch.tensor(boxes) + torch.tensor(rng.uniform(-0.4, 0.4, (len(boxes), 4)))
        self.scores = torch.tensor(rng.uniform(size=len(boxes)))
        self.masks = masks

    def forward(self, inputs):
        found = [(x["image_id"], self.found((x["height"], x["width"]))) for x in inputs]
        return [{"instances": of_image if number == 0 else of_image[:0]} for number, of_image in found]

    def found(self, size):
        x, y, w, h = self.boxes.unbind(1)
        found = Instances(size, pred_boxes=Boxes(torch.stack([x, y, x + w, y + h], 1)), scores=self.scores)
        found.pred_classes = torch.ones(len(self.scores), dtype=torch.long)
        if self.masks:
            found.pred_masks = torch.zeros(len(self.scores), *size, dtype=torch.bool)
            for mask, (x0, y0, x1, y1) in zip(found.pred_masks, found.pred_boxes.tensor.round().long(), strict=True):
                mask[y0:y1, x0:x1] = True
        return found


def scored(data, tmp_path, content, model, *keys):
    cfg = config(STUDENT, *data(content, "TEST"), "OUTPUT_DIR", tmp_path / "out", *keys)
    registering.register_declared(cfg)
    return evaluate(cfg, model)


def by_pycocotools(tmp_path, most):
    """AP, AP50 and AP of class 1, of the detections that were written."""
    truth = COCO(str(tmp_path / "truth.json"))
    scorer = COCOeval(truth, truth.loadRes(str(tmp_path / "out/inference/coco_instances_results.json")), "bbox")
    scorer.params.maxDets = [1, 10, most]
    scorer.evaluate()
    scorer.accumulate()
    values = scorer.eval["precision"][:, :, :, 0, -1]
    parts = (values, values[:1], values[:, :, 1])
    return [100 * part[part > -1].mean() for part in parts]


@pytest.mark.parametrize("most", [100, 200])
def test_a_limit_above_100_is_the_scorers(data, tmp_path, most):
    content = grid()
    (tmp_path / "truth.json").write_text(json.dumps(content | {"annotations": whole(content)}))
    boxes = [a["bbox"] for a in content["annotations"]]
    found = scored(data, tmp_path, content, Finds(boxes), "TEST.DETECTIONS_PER_IMAGE", most)["bbox"]
    assert list(found)[:6] == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    wanted = by_pycocotools(tmp_path, most)
    assert [found["AP"], found["AP50"], found["AP-1"]] == pytest.approx(wanted, abs=1e-9)
    assert (found["AP50"] > 95) == (most != 100)


def whole(content):
    """The annotations with what pycocotools needs."""
    return [a | {"area": a["bbox"][2] * a["bbox"][3], "iscrowd": 0} for a in content["annotations"]]


def test_a_usual_limit_is_that_of_the_rules():
    for most, wanted in ((50, None), (100, None), (101, 101), (300, 300), (-1, 10**6)):
        assert most_detections(config(STUDENT, "TEST.DETECTIONS_PER_IMAGE", most), 100) == wanted
    assert most_detections(config(STUDENT, "TEST.DETECTIONS_PER_IMAGE", 300), 300) is None  # LVIS'


@pytest.mark.parametrize("ids", [(0, -(2**63)), (2**63 - 1, -1), (2**64, -5), ("b", "a"), (1.0, 2)])
def test_ids_of_any_kind_are_scored(data, tmp_path, ids):
    """Of images and of categories: an object in the one image, and nothing in the other."""
    content = coco()
    content["categories"] = [{"id": ids[n] if n < 2 else f"c{n}", "name": str(n)} for n in range(10)]
    if all(isinstance(i, (int, float)) for i in ids):
        content["categories"][2:] = [{"id": 100 + n, "name": str(n)} for n in range(2, 10)]
    for image, i in zip(content["images"], ids, strict=True):
        image["id"] = i
    content["annotations"] = [{"id": 0, "image_id": ids[1], "category_id": ids[1], "bbox": [5, 5, 20, 20]}]
    keys = data(content, "TEST")
    cfg = config(STUDENT, *keys, "OUTPUT_DIR", tmp_path / "out")
    registering.register_declared(cfg)
    (name,) = cfg.DATASETS.TEST
    found = next(d["annotations"][0] for d in DatasetCatalog.get(name) if d["annotations"])
    names = MetadataCatalog.get(name).thing_classes
    assert names[found["category_id"]] == "1"

    class Right(nn.Module):
        def forward(self, inputs):
            box = Boxes(torch.tensor([[5.0, 5, 25, 25]]))
            kind = torch.tensor([found["category_id"]])
            seen = Instances((48, 64), pred_boxes=box, scores=torch.ones(1), pred_classes=kind)
            return [{"instances": seen if x["file_name"].endswith("1.png") else seen[:0]} for x in inputs]

    assert evaluate(cfg, Right())["bbox"]["AP-1"] == pytest.approx(100)


def crowded(**crowd):
    """An object with a mask, and below it a crowd."""
    content = coco()
    content["annotations"] = [
        {
            "id": 1,
            "image_id": 0,
            "category_id": 1,
            "bbox": [5, 5, 20, 20],
            "segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]],
        },
        {"id": 2, "image_id": 0, "category_id": 1, "bbox": [30, 30, 20, 10], "iscrowd": 1, **crowd},
    ]
    return content


SEEN = [[5.0, 5, 20, 20], [32, 32, 4, 4], [40, 31, 5, 5]]
MASKS = ["MODEL.MASK_ON", "True"]


@pytest.mark.parametrize("crowd", [{}, {"segmentation": []}, {"segmentation": [[30, 30, 50, 30, 50, 40, 30, 40]]}])
def test_what_is_found_on_a_crowd_is_no_error_whether_it_has_a_mask_or_not(data, tmp_path, crowd):
    model = Finds(SEEN, masks=True)
    model.boxes, model.scores = torch.tensor(SEEN), torch.tensor([0.2, 0.9, 0.8])
    found = scored(data, tmp_path, crowded(**crowd), model, *MASKS)
    assert (found["bbox"]["AP"], found["segm"]["AP"]) == (pytest.approx(100), pytest.approx(100))


def test_crowds_of_dicts_without_a_mask(tmp_path):
    objects = [a | {"bbox_mode": BoxMode.XYWH_ABS} for a in crowded()["annotations"]]
    dicts = [{"file_name": "a.png", "image_id": 0, "height": 48, "width": 64, "annotations": objects}]
    DatasetCatalog.register("crowded", lambda: dicts)
    MetadataCatalog.get("crowded").set(thing_classes=list(CLASSES))
    model = Finds(SEEN, masks=True)
    model.boxes, model.scores = torch.tensor(SEEN), torch.tensor([0.2, 0.9, 0.8])
    (tmp_path / "out").mkdir()
    evaluator = coco_evaluator(config(STUDENT, *MASKS), "crowded", str(tmp_path / "out"))
    evaluator.reset()
    evaluator.process(dicts, model(dicts))
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100)
    DatasetCatalog.remove("crowded")
    MetadataCatalog.remove("crowded")
