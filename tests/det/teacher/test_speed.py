"""What makes the teacher fast changes nothing that the student learns from it."""

import pytest
import torch
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage

from densedist.common.engine.checkpoint import SafeCheckpointer
from densedist.common.modules import record
from densedist.det.config import without_distillation
from densedist.det.modeling import box_head
from densedist.det.rcnn import DistillRCNN
from densedist.det.taps.features import feature_taps
from densedist.det.taps.rois import RecordedRoIs, RoIs
from helpers.tiny import STUDENT, TEACHER, batch, build_student, config, save_teacher

TAPS = {"cls_logits", "rois", "features"}
LEVELS = ["p2", "p3", "p4", "p5"]


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def taps(teacher, inputs):
    rois = [x["instances"].gt_boxes for x in inputs]
    student, pending = build_student(config(STUDENT)), teacher.begin(inputs)
    pooled = box_head.pooled(student.roi_heads, student.backbone(student.preprocess_image(inputs).tensor), rois)
    recorded = RecordedRoIs([(rois, pooled)], [[box_head.predict(student.roi_heads, pooled, "first")]])
    taught = {name: tap.teacher for name, tap in RoIs().taps(TAPS, student, recorded, pending).items()}
    return taught | feature_taps(TAPS, pending.maps, LEVELS)


def unfused(keys, inputs):
    """The same taps of the model as its file has it, in float64."""
    model = build_student(without_distillation(config(TEACHER))).eval()
    SafeCheckpointer(model, "", "", False).load(keys[3])
    model.double()
    boxes = [x["instances"].gt_boxes for x in inputs]
    with torch.no_grad():
        features = model.backbone(model.preprocess_image(inputs).tensor)
        logits = box_head.cls_logits(model.roi_heads, features, boxes, "first")
        pooled = box_head.pooled(model.roi_heads, features, boxes).mean((2, 3))
    return {"cls_logits": [logits], "rois": [pooled], "features": [features[level] for level in LEVELS]}


@pytest.mark.parametrize(("precision", "limit"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_taps_are_those_of_the_unfused_model(teacher_keys, precision, limit):
    inputs = batch()
    teacher = DistillRCNN.load_teacher(config(STUDENT, *teacher_keys, "DISTILL.TEACHER.PRECISION", precision))
    ours, wanted = taps(teacher, inputs), unfused(teacher_keys, inputs)
    assert ours.keys() == wanted.keys()
    for name in ours:
        for tap, exact in zip(ours[name], wanted[name], strict=True):
            assert tap.dtype == getattr(torch, precision)
            assert (tap - exact).abs().max() <= limit * exact.abs().max(), name


def test_boxes_keep_their_precision_when_the_maps_have_half(teacher_keys):
    """bfloat16 knows no number between 256 and 258."""
    heads = DistillRCNN.load_teacher(config(STUDENT, *teacher_keys)).model.roi_heads
    features = {f: torch.rand(1, 8, 160 // 2**i, 160 // 2**i).bfloat16() for i, f in enumerate(heads.box_in_features)}
    boxes = [Boxes(torch.tensor([[256.9, 256.9, 300.4, 300.4]]))]
    seen = box_head.pooled(heads, features, boxes)
    wanted = box_head.pooled(heads, {name: x.float() for name, x in features.items()}, boxes)
    assert seen.dtype == torch.bfloat16
    assert torch.equal(seen, wanted.bfloat16())


@pytest.mark.parametrize("students", [None, torch.bfloat16])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_mix_of_precisions_trains(teacher_keys, precision, students):
    keys = ["DISTILL.MIMIC.WEIGHT", "1.0", "DISTILL.RKD.WEIGHT", "1.0", "DISTILL.RKD.SAMPLES", "rois"]
    torch.manual_seed(0)
    model = build_student(config(STUDENT, *teacher_keys, *keys, "DISTILL.TEACHER.PRECISION", precision)).train()
    with (
        EventStorage(),
        record(model.distillation.teacher.model.backbone, lambda _, output: output["p2"].dtype) as seen,
        torch.autocast("cpu", students, enabled=students is not None),
    ):
        losses = model(batch())
    sum(losses.values()).backward()
    assert seen == [getattr(torch, precision)]
    for name in ("loss_dist", "loss_mimic", "loss_rkd"):
        assert losses[name].dtype == torch.float32
        assert losses[name].isfinite()
