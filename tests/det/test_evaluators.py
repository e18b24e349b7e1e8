"""Rules other than COCO's, several test sets, and what an evaluation leaves behind for the next."""

import inspect
import json
import math

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.lvis import load_lvis_json
from detectron2.data.datasets.pascal_voc import register_pascal_voc
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import nn

from densedist.common.errors import UserError
from densedist.det.data import registering
from densedist.det.datasets import check_datasets
from densedist.det.evaluation import average_precision, check_rules, evaluate, is_scored, metric
from helpers.coco import coco
from helpers.tiny import STUDENT, config


class Sees(nn.Module):
    """Finds the same boxes [x0, y0, x1, y1] of a class in every image, with masks that fill them."""

    def __init__(self, kind, *boxes, masks=False):
        super().__init__()
        self.kind, self.boxes, self.masks = kind, boxes, masks

    def forward(self, inputs):
        return [{"instances": self.found((x["height"], x["width"]))} for x in inputs]

    def found(self, size):
        found = Instances(size, scores=torch.ones(len(self.boxes)))
        found.pred_boxes = Boxes(torch.tensor(self.boxes, dtype=torch.float32).reshape(-1, 4))
        found.pred_classes = torch.full((len(self.boxes),), self.kind)
        if self.masks:
            found.pred_masks = torch.zeros(len(self.boxes), *size, dtype=torch.bool)
            for mask, (x0, y0, x1, y1) in zip(found.pred_masks, self.boxes, strict=True):
                mask[y0:y1, x0:x1] = True
        return found


@pytest.fixture
def registered():
    """Registers a data set for the time of the test."""
    names = []

    def register(name, load, **metadata):
        names.append(name)
        DatasetCatalog.register(name, load)
        MetadataCatalog.get(name).set(**metadata)
        return name

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def cfg_of(tmp_path, *names, **keys):
    more = [word for pair in keys.items() for word in pair]
    return config(STUDENT, "DATASETS.TEST", str(names), "OUTPUT_DIR", tmp_path / "out", *more)


def tags(values):
    return "".join(f"<{key}>{value}</{key}>" for key, value in values.items())


def write_voc(folder, box):
    """Two images with a bicycle each."""
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    about = {"name": "bicycle", "pose": "x", "truncated": 0, "difficult": 0, "bndbox": tags(corners)}
    text = tags({"size": tags({"height": 48, "width": 64}), "object": tags(about)})
    for name in "01":
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / f"JPEGImages/{name}.jpg")
        (folder / f"Annotations/{name}.xml").write_text(f"<annotation>{text}</annotation>")
    (folder / "ImageSets/Main/test.txt").write_text("0\n1\n")


@pytest.fixture
def voc(tmp_path):
    write_voc(tmp_path, (6, 6, 25, 25))
    register_pascal_voc("two_voc", str(tmp_path), "test", 2012)
    MetadataCatalog.get("two_voc").evaluator_type = "pascal_voc"
    yield "two_voc"
    DatasetCatalog.remove("two_voc")
    MetadataCatalog.remove("two_voc")


def test_corrected_annotations_of_pascal_voc_are_scored(voc, tmp_path):
    cfg = cfg_of(tmp_path, voc)
    assert evaluate(cfg, Sees(1, (5, 5, 25, 25)))["bbox"]["AP50"] == pytest.approx(100 / 20)
    write_voc(tmp_path, (40, 20, 60, 40))
    assert evaluate(cfg, Sees(1, (5, 5, 25, 25)))["bbox"]["AP50"] == 0
    assert evaluate(cfg, Sees(1))["bbox"] == {"AP": 0, "AP50": 0, "AP75": 0}


def test_an_evaluation_does_not_wake_what_is_kept_in_eval_mode(voc, tmp_path):
    model = Sees(1, (5, 5, 25, 25)).train()
    model.frozen = nn.BatchNorm2d(1).eval()
    evaluate(cfg_of(tmp_path, voc), model)
    assert model.training
    assert not model.frozen.training


@pytest.mark.parametrize("year", [2007, 2012])
def test_what_is_found_of_a_class_without_objects_leaves_a_number(voc, tmp_path, year):
    """Recall of no objects is 0 / 0, and the year 2012 would make NaN of the mean over all classes."""
    del MetadataCatalog.get(voc).year
    MetadataCatalog.get(voc).year = year
    cfg = cfg_of(tmp_path, voc)
    right, wrong = Sees(1, (5, 5, 25, 25)), Sees(7, (5, 5, 25, 25))
    assert evaluate(cfg, wrong)["bbox"]["AP50"] == 0

    class Both(nn.Module):
        def forward(self, inputs):
            pairs = zip(right(inputs), wrong(inputs), strict=True)
            return [{"instances": Instances.cat([a["instances"], b["instances"]])} for a, b in pairs]

    assert evaluate(cfg, Both())["bbox"]["AP50"] == pytest.approx(100 / 20)


class Poses(Sees):
    """Has the two points of `posed`, too; Detectron2 counts from the corner of a pixel."""

    def found(self, size):
        found = super().found(size)
        found.pred_keypoints = torch.tensor([[6.5, 6.5, 1], [20.5, 20.5, 1]]).repeat(len(found), 1, 1)
        return found


def posed(*keys):
    """Two objects of class 1 with points, of which keys are kept, and one without."""
    content = coco()
    for a in content["annotations"]:
        values = {"keypoints": [6, 6, 2, 20, 20, 2], "num_keypoints": 2}
        a |= {"category_id": 1} | {key: values[key] for key in keys}
    content["annotations"].append({"id": 99, "image_id": 0, "category_id": 1, "bbox": [30, 30, 10, 10], "iscrowd": 0})
    return content


@pytest.mark.parametrize("keys", [("keypoints", "num_keypoints"), ("keypoints",)])
@pytest.mark.parametrize(("model", "wanted"), [(Poses(1, (5, 5, 25, 25)), 100), (Poses(1), 0)])
def test_keypoints_are_scored_as_they_are_given(data, tmp_path, keys, model, wanted):
    """Objects without points do not count, as in COCO's own file; finding nothing is 0."""
    overrides = [*data(posed(*keys), "TEST"), "DATASETS.TRAIN", "('data_0',)", "OUTPUT_DIR", tmp_path / "out"]
    keys = ["MODEL.KEYPOINT_ON", "True", "TEST.KEYPOINT_OKS_SIGMAS", "[0.05, 0.05]"]
    cfg = config(STUDENT, *overrides, *keys)
    registering.register_declared(cfg)
    MetadataCatalog.get("data_0").set(keypoint_names=["a", "b"], keypoint_flip_map=[("a", "b")])
    found = evaluate(cfg, model)
    assert found["keypoints"]["AP"] == pytest.approx(wanted, abs=0.01)


def test_export_is_compared_by_coco_rules_on_pascal_voc(voc, tmp_path):
    """On some images: VOC's rules know all or none. Nothing stays behind."""
    cfg = cfg_of(tmp_path, voc)
    samples = DatasetCatalog.get(voc)[:1]
    outputs = Sees(1, (5, 5, 25, 25))(samples)
    assert average_precision(cfg, voc, samples, outputs) == pytest.approx(100)
    assert MetadataCatalog.get(voc).get("json_file") is None
    assert not (tmp_path / "out").exists()


def test_export_on_data_without_annotations(data, tmp_path):
    content = {kind: entries for kind, entries in coco().items() if kind != "annotations"}
    cfg = config(STUDENT, *data(content, "TEST"))
    registering.register_declared(cfg)
    samples = DatasetCatalog.get("data_0")
    assert math.isnan(average_precision(cfg, "data_0", samples, Sees(1, (5, 5, 25, 25))(samples)))


def entry(file, **more):
    return {"file_name": str(file), "image_id": 1, "height": 48, "width": 64, **more}


def test_whether_there_is_something_to_find_in_data_sets_of_any_form(registered, tmp_path):
    box = {"bbox": [5, 5, 20, 20], "bbox_mode": 1, "category_id": 1}
    loads = {
        "nothing": lambda: [entry("a.png")],
        "none": lambda: [entry("a.png", annotations=[])],
        "crowd": lambda: [entry("a.png", annotations=[box | {"iscrowd": 1}])],
        "object": lambda: [entry("a.png", annotations=[]), entry("b.png", annotations=[box])],
    }
    for name, load in loads.items():
        registered(name, load, thing_classes=list("0123456789"))
    assert [is_scored(cfg_of(tmp_path, name)) for name in loads] == [False, False, False, True]
    assert not is_scored(cfg_of(tmp_path, "object", "none"))
    assert not is_scored(cfg_of(tmp_path))


def test_each_test_set_has_its_own_files(registered, tmp_path):
    for name, box in (("left", [5, 5, 20, 20]), ("right", [40, 20, 20, 20])):
        found = {"bbox": box, "bbox_mode": 1, "category_id": 1}
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / f"{name}.png")
        dicts = [entry(tmp_path / f"{name}.png", annotations=[found])]
        registered(name, lambda dicts=dicts: dicts, thing_classes=list("0123456789"))
    cfg = cfg_of(tmp_path, "left", "right")
    results = evaluate(cfg, Sees(1, (5, 5, 25, 25)))
    assert [results[name]["bbox"]["AP"] for name in ("left", "right")] == [pytest.approx(100), 0]
    for name in ("left", "right"):
        assert len(json.loads((tmp_path / "out/inference" / name / "coco_instances_results.json").read_text())) == 1
    assert metric(cfg) == "left/bbox/AP"


def test_finding_nothing_is_an_ap_of_0_and_an_empty_list_of_results(registered, tmp_path):
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "a.png")
    found = {"bbox": [5, 5, 20, 20], "bbox_mode": 1, "category_id": 1}
    registered("one", lambda: [entry(tmp_path / "a.png", annotations=[found])], thing_classes=list("0123456789"))
    results = evaluate(cfg_of(tmp_path, "one"), Sees(1))["bbox"]
    assert (results["AP"], results["AP-1"]) == (0, 0)
    assert math.isnan(results["AP-2"]), "there is no object of it"
    assert json.loads((tmp_path / "out/inference/coco_instances_results.json").read_text()) == []


def test_cityscapesscripts_still_asks_for_what_is_patched():
    """Else the patches in det/evaluators.py can go."""
    official = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    assert not hasattr(np, "in1d")
    assert "np.in1d(" in inspect.getsource(official)
    assert "writeDict2JSON(" in inspect.getsource(official)


def test_lvis_still_asks_for_what_is_patched():
    """Else the patch in det/evaluators.py can go."""
    assert not hasattr(np, "float")
    assert "np.float" in inspect.getsource(pytest.importorskip("lvis.eval"))


def test_test_set_that_is_named_twice(registered, tmp_path):
    registered("twin", lambda: [entry("a.png")])
    with pytest.raises(UserError, match=r"^DATASETS.TEST: data set twin is named twice: name it once$"):
        check_rules(cfg_of(tmp_path, "twin", "twin"))


@pytest.fixture
def cityscapes(registered, tmp_path):
    """Two images with a car each."""
    folder = tmp_path / "gtFine"
    (folder / "town").mkdir(parents=True)
    dicts = []
    for number in range(2):
        truth = np.zeros((48, 64), np.uint16)
        truth[5:25, 5:25] = 26000
        name = f"town_000000_{number:06}"
        Image.fromarray(truth).save(folder / "town" / f"{name}_gtFine_instanceIds.png")
        image = tmp_path / f"{name}_leftImg8bit.png"
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(image)
        dicts.append(entry(image, image_id=name))
    about = {"thing_classes": ["person", "car"], "gt_dir": str(folder), "evaluator_type": "cityscapes_instance"}
    return registered("towns", lambda: dicts, **about)


def test_cityscapes_is_scored_by_its_masks(cityscapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = cfg_of(tmp_path, cityscapes)
    found = evaluate(cfg, Sees(1, (5, 5, 25, 25), masks=True))
    assert found["segm"] == {"AP": pytest.approx(100), "AP50": pytest.approx(100)}
    assert evaluate(cfg, Sees(1, masks=True))["segm"] == {"AP": 0, "AP50": 0}
    assert not (tmp_path / "matches.json").exists()
    assert metric(cfg) == "segm/AP"


@pytest.mark.parametrize("on", [False, True])
def test_masks_of_other_projects_detectors_are_scored_where_the_config_says_so(data, on):
    """Without MODEL.MASK_ON the data may have boxes alone."""
    content = coco()
    for annotation in content["annotations"] if on else []:
        annotation |= {"segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]], "area": 400}
    cfg = config(STUDENT, *data(content, "TEST"), "MODEL.KIND", "transformers", "MODEL.MASK_ON", on)
    check_datasets(cfg)
    found = evaluate(cfg, Sees(1, (5, 5, 25, 25), masks=True))
    assert set(found) == ({"bbox", "segm"} if on else {"bbox"})


def test_some_images_of_cityscapes_have_no_score(cityscapes, tmp_path):
    """A rehearsal asks for the first; cityscapesscripts would end the process."""
    assert evaluate(cfg_of(tmp_path, cityscapes), Sees(1, (5, 5, 25, 25), masks=True), most=1) == {}


def test_cityscapes_on_several_machines(cityscapes, tmp_path, monkeypatch):
    monkeypatch.setattr("densedist.det.evaluation.comm.get_world_size", lambda: 2)
    with pytest.raises(UserError, match=r"towns is scored by rules that work on one machine only: give --num-mach"):
        check_rules(cfg_of(tmp_path, cityscapes, **{"MODEL.MASK_ON": "True"}))


@pytest.fixture
def lvis(registered, tmp_path):
    """Two images with an object of the second class each."""
    pytest.importorskip("lvis")
    content = coco()
    folder = tmp_path / "val2017"
    folder.mkdir()
    for image in content["images"]:
        name = f"{image['id']}.png"
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / name)
        image |= {"coco_url": f"http://x/val2017/{name}", "neg_category_ids": [], "not_exhaustive_category_ids": []}
    for number, annotation in enumerate(content["annotations"], 1):
        annotation |= {"id": number, "category_id": 2, "area": 400.0, "segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]]}
        del annotation["iscrowd"]
    for number, category in enumerate(content["categories"], 1):
        category |= {"id": number, "frequency": "f", "image_count": 1, "instance_count": 1}
    file = tmp_path / "lvis.json"
    file.write_text(json.dumps(content))
    about = {"thing_classes": list("0123456789"), "json_file": str(file), "evaluator_type": "lvis"}
    return registered("few", lambda: load_lvis_json(str(file), f"{tmp_path}/"), **about)


def test_lvis_is_scored_by_its_own_rules(lvis, tmp_path):
    cfg = cfg_of(tmp_path, lvis)
    found = evaluate(cfg, Sees(1, (5, 5, 25, 25)))["bbox"]
    assert (found["AP"], found["APf"]) == (pytest.approx(100), pytest.approx(100))
    assert math.isnan(found["APr"]), "there is no rare class"
    found = evaluate(cfg_of(tmp_path, lvis, **{"MODEL.MASK_ON": "True"}), Sees(1))
    assert (found["bbox"]["AP"], found["bbox"]["AP50"], found["segm"]["AP"]) == (0, 0, 0)
    assert math.isnan(found["bbox"]["APr"])
    assert is_scored(cfg)


def test_export_is_compared_by_coco_rules_on_lvis(lvis, tmp_path):
    """Whose file pycocotools cannot read."""
    samples = DatasetCatalog.get(lvis)
    outputs = Sees(1, (5, 5, 25, 25))(samples)
    assert average_precision(cfg_of(tmp_path, lvis), lvis, samples, outputs) == pytest.approx(100)
    assert MetadataCatalog.get(lvis).json_file == str(tmp_path / "lvis.json")
