"""Several detectors that teach together: DISTILL.TEACHER.MORE."""

import pytest
import torch

from densedist.common.errors import UserError
from densedist.det.rcnn import DistillRCNN
from densedist.det.retinanet import DistillRetinaNet
from densedist.det.taps.anchors import live_class_maps
from densedist.det.taps.rois import live_class_logits
from helpers.calling import densedist
from helpers.tiny import DIGITS, SMALL, STUDENT, batch, build_student, config, save_teacher

KEY = "DISTILL.TEACHER.MORE"
DENSE = DIGITS / "retinanet_r10_quarter.yaml"
DENSE_TEACHER = DIGITS / "retinanet_r10t.yaml"


def more(keys, **others):
    """The override that adds the teacher of these keys."""
    return [KEY, str([{"CONFIG_FILE": keys[1], "WEIGHTS": keys[3], **others}])]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two of other widths and channel orders; the second looks at images twice as large."""
    folder = tmp_path_factory.mktemp("pair")
    first = save_teacher(folder / "first")
    second = save_teacher(folder / "second", "MODEL.FPN.OUT_CHANNELS", "32", "INPUT.FORMAT", "RGB")
    return first, second


def test_rcnns_are_averaged_in_probability_on_the_same_boxes(pair):
    first, second = pair
    images = [x["image"] for x in batch()]
    boxes = [x["instances"].gt_boxes for x in batch()]
    kinds = [first, [*second, "DISTILL.TEACHER.INPUT_SCALE", "2.0"], [*first, *more(second, INPUT_SCALE=2.0)]]
    alone, other, both = (
        live_class_logits(DistillRCNN.load_teachers(config(STUDENT, *keys)), images, [boxes, boxes[::-1]])
        for keys in kinds
    )
    for a, b, seen in zip(alone, other, both, strict=True):
        wanted = (a.double().softmax(1) + b.double().softmax(1)) / 2
        torch.testing.assert_close(seen.double().softmax(1), wanted, rtol=1e-4, atol=1e-6)
        assert (a - b).abs().max() > 0.1


def test_retinanets_are_averaged_on_every_anchor(tmp_path):
    first = save_teacher(tmp_path / "first", file=DENSE_TEACHER)
    second = save_teacher(tmp_path / "second", "MODEL.FPN.OUT_CHANNELS", "32", file=DENSE_TEACHER)
    images = [x["image"] for x in batch()]
    alone, other, both = (
        live_class_maps(DistillRetinaNet.load_teachers(config(DENSE, *keys)), images)
        for keys in (first, second, [*first, *more(second)])
    )
    for a, b, seen in zip(alone, other, both, strict=True):
        wanted = (a.double().sigmoid() + b.double().sigmoid()) / 2
        torch.testing.assert_close(seen.double().sigmoid(), wanted, rtol=1e-4, atol=1e-6)
    keys = [*first, *more(second)]
    with pytest.raises(UserError, match=r"DISTILL.PKD needs features, which this pair does not have"):
        build_student(config(DENSE, *keys, "DISTILL.PKD.WEIGHT", "1.0"))
    anchors = save_teacher(tmp_path / "anchors", "MODEL.ANCHOR_GENERATOR.SIZES", "[[16], [30]]", file=DENSE_TEACHER)
    with pytest.raises(UserError, match=r"MODEL.ANCHOR_GENERATOR: the student has .* anchors"):
        build_student(config(DENSE, *first, *more(anchors)))


def test_a_student_learns_from_both_and_is_told_of_them(pair, tmp_path, capsys):
    first, second = pair
    keys = [*first, *more(second), "SOLVER.MAX_ITER", "2", "OUTPUT_DIR", tmp_path / "out", *SMALL]
    densedist("train", "det", "--config-file", STUDENT, *keys)
    plan = capsys.readouterr().out
    assert plan.count("  teacher  GeneralizedRCNN (") == 2
    weights = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)["model"]
    assert weights.keys() == build_student(config(STUDENT)).state_dict().keys()
    student = tmp_path / "out"
    densedist(
        "visualize", "--weights", student, "--images", 1, "--output-dir", tmp_path / "seen", "MODEL.DEVICE", "cpu"
    )
    assert (tmp_path / "seen").is_dir()


def test_what_cannot_be_averaged_is_refused(pair, tmp_path):
    first, second = pair
    keys = [*first, *more(second)]

    def refused(words, *overrides):
        with pytest.raises(UserError, match=words):
            build_student(config(STUDENT, *overrides))

    refused("DISTILL.MIMIC needs features, which this pair does not have", *keys, "DISTILL.MIMIC.WEIGHT", "1.0")
    refused(
        r"DISTILL.RKD needs rois, which this pair does not have",
        *keys,
        "DISTILL.RKD.WEIGHT",
        "1.0",
        "DISTILL.RKD.SAMPLES",
        "rois",
    )
    refused("WEIGHTS is set, but DISTILL.TEACHER.CONFIG_FILE is empty", *first, KEY, "[{'WEIGHTS': 'a.pth'}]")
    refused("CACHE keeps the output of one detector", *keys, "DISTILL.TEACHER.CACHE", tmp_path / "cache")
    refused("unknown config key DISTILL.TEACHER.WEIGTHS", *first, KEY, "[{'WEIGTHS': 'a.pth'}]")
    sigmoids = save_teacher(tmp_path / "sigmoids", "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "True")
    refused("MORE: the teachers' class heads are softmax, sigmoid: want all of one kind", *first, *more(sigmoids))
    dense = save_teacher(tmp_path / "dense", file=DENSE_TEACHER)
    refused(r"DISTILL.DIST needs cls_logits, .* \(the teacher is a RetinaNet, no R-CNN\)", *first, *more(dense))
