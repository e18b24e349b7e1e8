"""Any detector teaches any other through its maps, and a student may start from parts of its teacher."""

import logging

import pytest
import torch
from detectron2.utils.events import EventStorage

from densedist.common.config import load
from densedist.common.errors import UserError
from densedist.common.losses import PKDLoss
from densedist.common.modules import record
from densedist.det.config import GRAMMAR, without_distillation
from helpers.tiny import CONFIGS, DIGITS, STRIDES, STUDENT, TEACHER, batch, build_student, config, inside, save_teacher

DENSE, DENSE_TEACHER = DIGITS / "retinanet_r10_quarter.yaml", DIGITS / "retinanet_r10t.yaml"
PKD = ["DISTILL.DIST.WEIGHT", "0.0", "DISTILL.PKD.WEIGHT", "1.0"]
WIDE = ["MODEL.FPN.OUT_CHANNELS", "12"]


def build(file, *overrides):
    torch.manual_seed(0)
    return build_student(config(file, *overrides)).train()


@pytest.mark.parametrize(("student", "teacher"), [(DENSE, TEACHER), (STUDENT, DENSE_TEACHER)])
def test_maps_of_the_same_stride(tmp_path, student, teacher):
    keys = save_teacher(tmp_path, file=teacher)
    model = build(student, *keys, *PKD, "DISTILL.MGD.WEIGHT", "1e-4")
    for inputs in (batch(), [{"image": x["image"]} for x in batch()]):
        with EventStorage(), record(model.backbone, lambda _, output: output) as ours:
            losses = model(inputs)
        taught = model.distillation.teacher.model
        with torch.no_grad():
            theirs = taught.backbone(taught.preprocess_image(inputs).tensor)
        levels = [(ours[0][n], theirs[n], inside(inputs, theirs[n], STRIDES[n])) for n in ("p2", "p3", "p4", "p5")]
        wanted = sum(PKDLoss()(*level) for level in levels)
        end = "" if "instances" in inputs[0] else "_unlabeled"
        torch.testing.assert_close(losses[f"loss_pkd{end}"], wanted)
        assert losses[f"loss_mgd{end}"] > 0


def test_generators_are_no_part_of_the_student(tmp_path):
    keys = ["DISTILL.MGD.WEIGHT", "1e-4", "DISTILL.MGD.MASKED", "0.4"]
    model = build(STUDENT, *save_teacher(tmp_path, *WIDE), *keys)
    assert set(model.state_dict()) == set(build_student(without_distillation(config(STUDENT))).state_dict())
    generators = model.distillation.distiller.adapters["mgd"]
    assert [(g.align.in_channels, g.align.out_channels, g.masked) for g in generators] == [(8, 12, 0.4)] * 4
    with EventStorage():
        model(batch())["loss_mgd"].backward()
    assert all(p.grad is not None for p in generators.parameters())


def test_neck_and_head_of_a_cascade(tmp_path, caplog):
    """Where it has the same shapes the student's single head is that of the first stage; the log names the rest."""
    heads = ["MODEL.ROI_BOX_HEAD.NUM_FC", "1", "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "7"]
    keys = save_teacher(tmp_path, *heads, "MODEL.ROI_BOX_HEAD.FC_DIM", "16")
    plain = build(STUDENT, *keys, *heads)
    with caplog.at_level(logging.INFO, "densedist.det.modeling.inheriting"):
        model = build(STUDENT, *keys, *heads, "DISTILL.INHERIT", "['neck', 'head']")
    theirs, before = model.distillation.teacher.model.state_dict(), plain.state_dict()
    changed = {name for name, x in model.state_dict().items() if not torch.equal(x, before[name])}
    assert "roi_heads.box_head.fc1.weight" in changed
    assert "proposal_generator.rpn_head.conv.weight" in changed
    assert not any(name.startswith("backbone.bottom_up.") for name in changed)
    for name in changed:
        there = name.replace("box_head.", "box_head.0.").replace("box_predictor.", "box_predictor.0.")
        torch.testing.assert_close(model.state_dict()[name], theirs[there])
    neck, head = (r.getMessage() for r in caplog.records if r.name == "densedist.det.modeling.inheriting")
    assert "of the neck are the teacher's" in neck
    assert head.endswith(
        "not, for their names or shapes: roi_heads.box_predictor.bbox_pred.weight, "
        "roi_heads.box_predictor.bbox_pred.bias"
    )


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_what_is_inherited_is_what_was_trained(tmp_path, precision):
    """Not the batch norms that the teacher in training has fused away, and not its numbers in half precision."""
    norm = ["MODEL.FPN.NORM", "BN"]
    keys = [*save_teacher(tmp_path, *norm), *norm, "DISTILL.INHERIT", "['neck']"]
    model = build(STUDENT, *keys, "DISTILL.TEACHER.PRECISION", precision)
    trained = torch.load(tmp_path / "weights.pth", weights_only=True)["model"]
    neck = [name for name in model.state_dict() if name.startswith("backbone.fpn_")]
    same = [name for name in neck if torch.equal(model.state_dict()[name], trained[name])]
    assert any(name.endswith("norm.running_var") for name in neck)
    # These take maps of other widths.
    assert set(neck) - set(same) == {f"backbone.fpn_lateral{i}.weight" for i in (2, 3, 4)}
    assert not model.distillation.teacher.heritage


def test_nothing_to_inherit(tmp_path):
    wide = save_teacher(tmp_path / "wide", *WIDE)
    with pytest.raises(UserError, match=r"DISTILL.INHERIT: the student has no neck like its teacher's: backbone.fpn_"):
        build(STUDENT, *wide, "DISTILL.INHERIT", "['neck']")
    dense = save_teacher(tmp_path / "dense", file=DENSE_TEACHER)
    with pytest.raises(UserError, match=r"no head like its teacher's: proposal_generator.* the teacher's not there"):
        build(STUDENT, *dense, *PKD, "DISTILL.INHERIT", "['head']")
    with pytest.raises(UserError, match=r"DISTILL.INHERIT is \['body'\]: want any of neck, head"):
        build(STUDENT, *wide, "DISTILL.INHERIT", "['body']")
    classes = ["MODEL.ROI_HEADS.NUM_CLASSES", "9", "DATASETS.TRAIN", "[]"]
    classes += ["DATASETS.CLASSES", str([str(number) for number in range(1, 10)])]
    other = [*save_teacher(tmp_path / "other", *classes), "DISTILL.TEACHER.MISSING_CLASSES", "leave_out"]
    with pytest.raises(UserError, match=r"DISTILL.INHERIT: the teacher has other classes"):
        build(STUDENT, *other, "DISTILL.INHERIT", "['head']")


@pytest.mark.parametrize(
    ("recipe", "losses"),
    [
        ("faster_rcnn_r50_dist_box_mgd", {"loss_dist", "loss_box", "loss_mgd"}),
        ("retinanet_r50_pkd_cascade", {"loss_pkd"}),
    ],
)
def test_recipes_on_coco(tmp_path, recipe, losses):
    """As shipped, but for a small teacher."""
    keys = save_teacher(tmp_path, "MODEL.ROI_HEADS.NUM_CLASSES", "80", "DATASETS.TRAIN", "[]")
    cfg = load(GRAMMAR, str(CONFIGS / "det" / "coco" / f"{recipe}.yaml"), [*keys, "MODEL.DEVICE", "cpu"])
    model = build_student(cfg).train()
    with EventStorage():
        seen = model(batch(size=64))
    assert {name for name in seen if name not in plain_losses(model)} == losses
    assert all(loss.isfinite() for loss in seen.values())


def plain_losses(model):
    distillation, model.distillation = model.distillation, None
    with EventStorage():
        names = set(model(batch(size=64)))
    model.distillation = distillation
    return names
