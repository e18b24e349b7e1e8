"""Labels that a teacher wrote, as they are read: scores of objects, and boxes that are neither these nor background."""

import numpy as np
import pytest
import torch
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes

from densedist.common.data import digits
from densedist.common.data.sides import MARK
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition
from densedist.det.checks import check_data
from densedist.det.data.reading import Mapper
from densedist.det.data.teacher_labels import IGNORED, low_as_crowds
from densedist.det.loader import training_batches
from densedist.det.models import build_trainee, load_config
from helpers.tiny import SMALL, STUDENT

SURE = ["PSEUDO_LABELS.CONFIDENCE", "score"]
CATEGORIES = [{"id": n, "name": f"class {n}"} for n in range(1, 11)]
# box, category, score, crowd
OBJECTS = [([4, 4, 20, 16], 3, 0.9, 0), ([30, 8, 16, 30], 7, 0.4, 0), ([40, 30, 20, 10], 1, 0.6, 1)]


def content(objects=OBJECTS, images=2):
    annotations = [
        {"id": 10 * i + n, "image_id": i, "category_id": c, "bbox": box, "score": score, "iscrowd": crowd, "area": 1}
        | {"box_variance": score / 10}
        for i in range(images)
        for n, (box, c, score, crowd) in enumerate(objects, 1)
    ]
    about = [{"id": i, "file_name": f"{i}.png", "height": 48, "width": 64} for i in range(images)]
    return {"images": about, "categories": CATEGORIES, "annotations": annotations}


@pytest.fixture
def sample_of(data):
    """Loads the first training sample of a content."""

    def load(given, *keys):
        cfg = load_config(str(STUDENT), [*SMALL, *data(given, "PSEUDO_LABELED"), "DATASETS.TRAIN", "()", *keys])
        return next(iter(training_batches(cfg)(RunPosition(0))))[0]

    return load


STILL = ["INPUT.MIN_SIZE_TRAIN", "(48,)", "INPUT.RANDOM_FLIP", "none"]


def test_scores_and_ignored_boxes_are_read(sample_of):
    sample = sample_of(content(), *STILL, *SURE)
    assert sample[MARK]
    assert sample["instances"].gt_classes.tolist() == [2, 6]
    assert sample["instances"].gt_scores.tolist() == pytest.approx([0.9, 0.4])
    assert sample[IGNORED].tensor.tolist() == [[40.0, 30.0, 60.0, 40.0]]


def test_scores_are_left_out_where_they_do_not_count(sample_of):
    sample = sample_of(content(), *STILL)
    assert not sample["instances"].has("gt_scores")
    assert len(sample[IGNORED]) == 1
    assert IGNORED not in sample_of(content(OBJECTS[:2]), *STILL)


def test_true_labels_have_neither(data):
    cfg = load_config(str(STUDENT), [*SMALL, *data(content()), *SURE])
    sample = Mapper(cfg)({**training_dict(), "annotations": [annotation(*one) for one in OBJECTS]})
    assert IGNORED not in sample
    assert not sample["instances"].has("gt_scores")


def training_dict():
    digits.ensure()
    return {"file_name": str(next(digits.images("val").glob("*.png"))), "image_id": 1}


def annotation(box, category, score, crowd):
    about = {"bbox": box, "bbox_mode": 1, "category_id": category, "score": score, "iscrowd": crowd}
    return about | {"box_variance": score / 10}


def test_scores_follow_the_objects_that_a_crop_leaves(data):
    """Class and score of an object stay with its box, whichever others are cut off; ignored boxes are cut, too."""
    words = ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "[24, 24]"]
    words += [*SURE, "PSEUDO_LABELS.MAX_BOX_VARIANCE", "0.045"]
    cfg = load_config(str(STUDENT), [*SMALL, *data(content()), *words, "INPUT.MIN_SIZE_TRAIN", "(24,)"])
    mapper, seen = Mapper(cfg), set()
    for seed in range(40):
        np.random.seed(seed)
        objects = [([8 * n, 6 * n, 10, 10], n, n / 10, 0) for n in range(1, 8)] + [([0, 0, 30, 30], 1, 0.5, 1)]
        sample = mapper({**training_dict(), MARK: True, "annotations": [annotation(*one) for one in objects]})
        instances = sample["instances"]
        assert instances.gt_scores.tolist() == pytest.approx([n / 10 for n in instances.gt_classes.tolist()])
        assert instances.gt_placed.tolist() == [float(n <= 4) for n in instances.gt_classes.tolist()]
        seen.add(len(instances))
        if IGNORED in sample:
            sides = sample[IGNORED].tensor[0]
            assert (sides >= 0).all()
            assert (sides[2:] <= max(sample["image"].shape[1:])).all()
    assert len(seen) > 2


def test_boxes_of_a_large_variance_are_marked(sample_of):
    given = content(OBJECTS[:2])
    for entry, variance in zip(given["annotations"], [0.02, 0.03] * 2, strict=True):
        entry["box_variance"] = variance
    assert sample_of(given, *STILL, "PSEUDO_LABELS.MAX_BOX_VARIANCE", "0.02")["instances"].gt_placed.tolist() == [1, 0]
    sample = sample_of(given, *STILL)
    assert not sample["instances"].has("gt_placed")
    assert sample["instances"].gt_classes.tolist() == [2, 6]


@pytest.mark.parametrize("variance", [None, -0.1, "0.1", float("nan")])
def test_variances_that_are_not_there_are_refused(data, variance):
    given = content(OBJECTS[:1])
    for entry, value in zip(given["annotations"], (0.01, variance), strict=True):
        entry["box_variance"] = value
    keys = [*SMALL, *data(given, "PSEUDO_LABELED"), "DATASETS.TRAIN", "()", "PSEUDO_LABELS.MAX_BOX_VARIANCE", "0.02"]
    said = r"MAX_BOX_VARIANCE is 0.02, but 1 annotations of .* have no box_variance of 0 or more, first annotation 11: "
    said += r"let the teacher write the labels again \(--box-variance\), or set it to its default$"
    with pytest.raises(UserError, match=said):
        check_data(load_config(str(STUDENT), keys), "PSEUDO_LABELED")


def test_a_variance_below_0_and_one_without_labels_are_refused():
    with pytest.raises(UserError, match=r"^PSEUDO_LABELS.MAX_BOX_VARIANCE is -1.0: want 0 \(not used\) or more$"):
        load_config(str(STUDENT), [*SMALL, "PSEUDO_LABELS.MAX_BOX_VARIANCE", "-1.0"])
    cfg = load_config(str(STUDENT), [*SMALL, "PSEUDO_LABELS.MAX_BOX_VARIANCE", "0.02"])
    with pytest.raises(UserError, match=r"^PSEUDO_LABELS.MAX_BOX_VARIANCE is set, but DATASETS.PSEUDO_LABELED is emp"):
        training_batches(cfg)(RunPosition(0))


def test_min_score_is_the_band_of_a_file(sample_of):
    """Labels written with a low threshold and read with MIN_SCORE are those that were written with a band."""
    low = [(box, c, score, 0) for box, c, score, _ in OBJECTS]
    band = [(box, c, score, int(score < 0.7)) for box, c, score, _ in OBJECTS]
    read, written = (
        sample_of(content(low), *STILL, *SURE, "PSEUDO_LABELS.MIN_SCORE", "0.7"),
        sample_of(content(band), *STILL, *SURE),
    )
    for sample in (read, written):
        assert sample["instances"].gt_classes.tolist() == [2]
        assert isinstance(sample[IGNORED], Boxes)
    assert torch.equal(read[IGNORED].tensor, written[IGNORED].tensor)
    assert len(read[IGNORED]) == 2


def test_images_of_low_scores_alone_are_left_out(data):
    """As Detectron2 leaves out those without an object."""
    given = content(OBJECTS[:1])
    given["annotations"][1]["score"] = 0.1
    keys = [*data(given, "PSEUDO_LABELED"), "DATASETS.TRAIN", "()", "PSEUDO_LABELS.MIN_SCORE", "0.5"]
    batches = iter(training_batches(load_config(str(STUDENT), [*SMALL, *keys]))(RunPosition(0)))
    assert {sample["image_id"] for _ in range(3) for sample in next(batches)} == {0}
    assert low_as_crowds([{"annotations": [{"bbox": 1}]}], 0.5) == [{"annotations": [{"bbox": 1}]}]


@pytest.mark.parametrize(
    ("scores", "keys", "said"),
    [
        (
            [0.9, None],
            SURE,
            "CONFIDENCE is score, but 1 annotations of .* have no score from 0 to 1, first",
        ),
        ([0.9, 2.0], ["PSEUDO_LABELS.MIN_SCORE", "0.5"], "PSEUDO_LABELS.MIN_SCORE is 0.5, but 1 annotations"),
        ([0.9, 0.8], ["PSEUDO_LABELS.MIN_SCORE", "0.95"], "MIN_SCORE is 0.95, and no box has that score: lower it"),
    ],
)
def test_scores_that_are_not_there_are_refused(data, scores, keys, said):
    given = content(OBJECTS[:1])
    for entry, score in zip(given["annotations"], scores, strict=True):
        entry["score"] = score
    cfg = load_config(str(STUDENT), [*SMALL, *data(given, "PSEUDO_LABELED"), "DATASETS.TRAIN", "()", *keys])
    with pytest.raises(UserError, match=said):
        check_data(cfg, "PSEUDO_LABELED")
    check_data(load_config(str(STUDENT), cfg_words(cfg)), "PSEUDO_LABELED")


def test_a_file_without_objects_names_what_writes_more(data):
    words = [*SMALL, *data(content([OBJECTS[2]]), "PSEUDO_LABELED"), "DATASETS.TRAIN", "()"]
    with pytest.raises(UserError, match=r"nothing to learn from: let the teacher write .* \(--score-threshold\)$"):
        check_data(load_config(str(STUDENT), words), "PSEUDO_LABELED")


def cfg_words(cfg):
    """The same data without the keys."""
    node = cfg.DATASETS
    words = ["DATASETS.COCO_FORMAT", str(node.COCO_FORMAT), "DATASETS.PSEUDO_LABELED", str(node.PSEUDO_LABELED)]
    return [*SMALL, *words, "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]


@pytest.mark.parametrize("keys", [SURE, ["PSEUDO_LABELS.MIN_SCORE", "0.5"], ["PSEUDO_LABELS.MAX_BOX_VARIANCE", "0.02"]])
def test_a_data_set_of_detectron2_that_keeps_no_scores_is_refused(data, tmp_path, keys):
    """Its file has them."""
    data(content())
    register_coco_instances("theirs", {}, str(tmp_path / "data_0" / "a.json"), str(tmp_path / "data_0"))
    words = [*SMALL, "DATASETS.PSEUDO_LABELED", "('theirs',)", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]
    check_data(load_config(str(STUDENT), words), "PSEUDO_LABELED")
    with pytest.raises(UserError, match=r"theirs: PSEUDO_LABELS.*, but as it is registered .* have no \w+: name it"):
        check_data(load_config(str(STUDENT), [*words, *keys]), "PSEUDO_LABELED")


def test_crowds_are_refused_before_training_by_what_would_take_them_for_background(data):
    rotated = ["MODEL.PROPOSAL_GENERATOR.NAME", "RRPN", "MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"]
    more = [*rotated, "MODEL.RPN.BBOX_REG_WEIGHTS", "(1.0,1.0,1.0,1.0,1.0)", "DATASETS.TRAIN", "()"]
    build_trainee(load_config(str(STUDENT), [*SMALL, *data(content(OBJECTS[:2]), "PSEUDO_LABELED"), *more]))
    cfg = load_config(str(STUDENT), [*SMALL, *data(content(), "PSEUDO_LABELED"), *more])
    with pytest.raises(UserError, match="NAME is RRPN, which ignores the PSEUDO_LABELS weights: use RPN"):
        build_trainee(cfg)


def test_stock_architectures_weigh_nothing(data):
    stock = ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"]
    keys = [*SMALL, *data(content(), "PSEUDO_LABELED"), "DATASETS.TRAIN", "()", *stock]
    with pytest.raises(UserError, match="has crowds, which would be background to"):
        check_data(load_config(str(STUDENT), keys), "PSEUDO_LABELED")
    for key, value in (("WEIGHT", "0.5"), ("MAX_BOX_VARIANCE", "0.02")):
        with pytest.raises(UserError) as refused:
            build_trainee(load_config(str(STUDENT), [*keys, f"PSEUDO_LABELS.{key}", value]))
        assert str(refused.value) == (
            "PSEUDO_LABELS: MODEL.META_ARCHITECTURE GeneralizedRCNN cannot weight labels: set it to DistillRCNN or "
            "DistillRetinaNet"
        )
