"""TEST.AUG: which views of an image a detector is shown, and what becomes of the boxes that it finds in them."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.modeling.test_time_augmentation import GeneralizedRCNNWithTTA
from detectron2.structures import Boxes

import densedist
from densedist.common.data import digits
from densedist.common.errors import UserError
from densedist.common.run_files import Weights
from densedist.det.data.reading import read_input
from densedist.det.inference.predict import predict
from densedist.det.modeling.augmented import FusedViews, augmented
from densedist.det.modeling.fusion import fuse
from densedist.det.models import load_trained, read_config
from helpers import tiny
from helpers.calling import densedist as command

AUG = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(96, 128)"]
TEST = ["DATASETS.TEST", "('digits_val',)"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Run-like folders of an R-CNN with masks and of a RetinaNet."""
    folder = tmp_path_factory.mktemp("detectors")
    tiny.save_teacher(folder / "rcnn", *TEST)
    tiny.save_retinanet(folder / "retinanet", *TEST)
    return folder


def trained(folder, kind, *words):
    file = folder / kind / ("weights.pth" if kind == "rcnn" else "w.pth")
    return load_trained(Weights(str(file), str(folder / kind / "config.yaml"), True).under(*words))


def image():
    return sorted(Path(digits.images("val")).glob("*.png"))[0]


def test_off_is_the_model_itself(folder):
    one = trained(folder, "rcnn")
    assert augmented(one.cfg, one.model) is one.model


def test_labels_of_an_rcnn_are_those_of_detectron2s_augmentation(folder, tmp_path):
    densedist.label([folder / "rcnn" / "weights.pth"], [image()], AUG, output_dir=tmp_path / "out", score_threshold=0.2)
    one = trained(folder, "rcnn", *AUG, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.05")
    with torch.no_grad():
        wanted = GeneralizedRCNNWithTTA(one.cfg, one.model)([read_input(one.cfg, image())[0]])[0]["instances"]
    written = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]
    assert sorted(a["score"] for a in written) == pytest.approx(sorted(x for x in wanted.scores.tolist() if x >= 0.2))
    assert written
    assert all("segmentation" in a for a in written)
    plain = predict(one.model, read_input(one.cfg, image())[0])
    assert sorted(plain.scores.tolist()) != pytest.approx(sorted(wanted.scores.tolist()))


def test_a_retinanets_boxes_in_all_views_are_fused(folder):
    keys = [*AUG, "TEST.AUG.MIN_SIZES", "(128,)", "TEST.DETECTIONS_PER_IMAGE", "7"]
    one = trained(folder, "retinanet", *keys)
    model = augmented(one.cfg, one.model)
    assert isinstance(model, FusedViews)
    assert not model.training
    sample = read_input(one.cfg, image())[0]
    assert sample["image"].shape[1:] == (128, 128)
    straight = predict(one.model, sample)
    mirrored = predict(one.model, sample | {"image": sample["image"].flip(2)})
    x0, y0, x1, y1 = mirrored.pred_boxes.tensor.unbind(1)
    mirrored.pred_boxes = Boxes(torch.stack([sample["width"] - x1, y0, sample["width"] - x0, y1], 1))
    wanted, seen = fuse([straight, mirrored])[:7], predict(model, sample)
    assert len(seen) == 7
    torch.testing.assert_close(seen.scores, wanted.scores)
    torch.testing.assert_close(seen.pred_boxes.tensor, wanted.pred_boxes.tensor, rtol=1e-4, atol=1e-3)


def test_other_sizes_find_boxes_in_pixels_of_the_file(folder):
    keys = [*AUG, "TEST.AUG.FLIP", "False", "TEST.AUG.MIN_SIZES", "(64,)"]
    one = trained(folder, "retinanet", *keys)
    sample = read_input(one.cfg, image())[0]
    alone = trained(folder, "retinanet", "INPUT.MIN_SIZE_TEST", "64")
    wanted = fuse([predict(alone.model, read_input(alone.cfg, image())[0])])
    seen = predict(augmented(one.cfg, one.model), sample)
    assert len(seen) == len(wanted)
    torch.testing.assert_close(seen.scores, wanted.scores, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(seen.pred_boxes.tensor, wanted.pred_boxes.tensor, rtol=1e-2, atol=0.5)


@pytest.mark.parametrize("kind", ["rcnn", "retinanet"])
def test_eval_gives_both_scores(folder, kind, tmp_path):
    weights = folder / kind / ("weights.pth" if kind == "rcnn" else "w.pth")
    command("eval", "det", "--weights", weights, *AUG, "OUTPUT_DIR", tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {"bbox", "bbox_TTA"} <= set(results)
    assert results["bbox"].keys() == results["bbox_TTA"].keys()


def test_a_run_augments_at_its_end_alone(tmp_path):
    keys = [*tiny.SMALL, *AUG, "SOLVER.MAX_ITER", "4", "TEST.EVAL_PERIOD", "2", "DATASETS.TEST", "('digits_test',)"]
    command("train", "det", "--config-file", tiny.STUDENT, *keys, "OUTPUT_DIR", tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.json").read_text().splitlines()]
    plain, views = ([line["iteration"] for line in lines if f"{kind}/AP" in line] for kind in ("bbox", "bbox_TTA"))
    assert len(plain) == 2
    assert views == plain[-1:]
    assert "bbox_TTA" in json.loads((tmp_path / "out" / "results.json").read_text())


def test_pictures_have_it_too(folder, tmp_path):
    keys = {"TEST.AUG.ENABLED": True, "TEST.AUG.MIN_SIZES": "(64,)", "TEST.AUG.FLIP": False}
    both = [
        densedist.predict(
            folder / "rcnn" / "weights.pth", [image()], words, output_dir=tmp_path / name, score_threshold=0.1
        )
        for name, words in (("views", keys), ("plain", {}))
    ]
    assert both[0] != both[1]


def test_what_does_not_go_together_is_refused():
    for keys, said in (
        (
            ["MODEL.KEYPOINT_ON", "True"],
            r"TEST.AUG.ENABLED: Detectron2 has no test-time augmentation with MODEL.KEYPOI",
        ),
        (["INPUT.FLIP_PAIRS", "[['0', '1']]"], r"TEST.AUG.FLIP: a mirror image shows other classes \(INPUT.FLIP_PAIRS"),
    ):
        with pytest.raises(UserError, match=said):
            read_config(str(tiny.STUDENT), [*tiny.SMALL, *AUG, *keys])
