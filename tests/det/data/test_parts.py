"""A part of a data set by name, as in digits_val[:2]: only its images are trained on, and only they are scored."""

import json

import pytest
from detectron2.data import DatasetCatalog
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import densedist
from densedist.common.data import digits
from densedist.common.errors import UserError
from densedist.det.data.registering import ground_truth
from densedist.det.models import load_config
from helpers.tiny import SMALL, STUDENT, save_teacher


def loaded(*words):
    return load_config(str(STUDENT), [*SMALL, *map(str, words)])


@pytest.mark.parametrize(("part", "places"), [("[:2]", slice(2)), ("[1:3]", slice(1, 3)), ("[3:]", slice(3, None))])
def test_images_and_their_annotations(part, places):
    name = f"digits_val{part}"
    loaded("DATASETS.TRAIN", f"('{name}',)")
    assert DatasetCatalog.get(name) == DatasetCatalog.get("digits_val")[places]
    coco = ground_truth(name)
    assert {a["image_id"] for a in coco.annotations} <= {image["id"] for image in coco.images}
    assert len(coco.annotations) == sum(len(entry["annotations"]) for entry in DatasetCatalog.get(name))


def test_scores_are_those_of_pycocotools_on_these_images(tmp_path):
    weights = save_teacher(tmp_path / "model", "DATASETS.TEST", "('digits_val[1:3]',)", file=STUDENT)[-1]
    found = densedist.evaluate(weights, ["OUTPUT_DIR", str(tmp_path / "out")])["bbox"]["AP"]
    truth = COCO(str(digits.annotations("val")))
    predictions = tmp_path / "out" / "inference" / "coco_instances_results.json"
    judge = COCOeval(truth, truth.loadRes(str(predictions)), "bbox")
    judge.params.imgIds = sorted(truth.imgs)[1:3]
    assert {p["image_id"] for p in json.loads(predictions.read_text())} == set(judge.params.imgIds)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert found == pytest.approx(100 * judge.stats[0])


def test_what_has_no_such_part():
    with pytest.raises(UserError, match=r"there is no data set digits_vall\[:2\]; did you mean digits_val"):
        loaded("DATASETS.TRAIN", "('digits_vall[:2]',)")
    with pytest.raises(UserError, match=r"DATASETS.TEST: voc_2007_val\[:2\]: voc_2007_val is not in COCO format"):
        loaded("DATASETS.TEST", "('voc_2007_val[:2]',)")


def test_nothing_is_left_of_an_empty_part(tmp_path):
    keys = [*SMALL, "DATASETS.TRAIN", "('digits_val[9:]',)", "OUTPUT_DIR", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"data set digits_val\[9:\] is empty"):
        densedist.train(str(STUDENT), keys)
