"""R-CNN heads of sigmoids (MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE): distilled as they are trained, without a background."""

import pytest
import torch
from detectron2.utils.events import EventStorage

from densedist.common.errors import UserError
from densedist.common.modules import record
from densedist.det.modeling import box_head
from densedist.det.rcnn import DistillRCNN
from helpers import reference
from helpers.tiny import STUDENT, batch, build_student, config, save_teacher

SIGMOID = ["MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "True"]
ONE_STAGE = ["MODEL.ROI_HEADS.NAME", "StandardROIHeads"]


def losses_of(model):
    torch.manual_seed(0)
    with EventStorage():
        return model(batch())


def pair(folder, *stages):
    return build_student(config(STUDENT, *save_teacher(folder, *SIGMOID, *stages), *SIGMOID)).train()


def test_loss_is_that_of_the_sigmoids_of_the_classes(tmp_path):
    student = pair(tmp_path, *ONE_STAGE)
    taught = student.distillation.teacher.model
    with (
        record(student.roi_heads.box_predictor, lambda _, output: output[0]) as ours,
        record(taught.roi_heads.box_predictor, lambda _, output: output[0]) as theirs,
    ):
        losses = losses_of(student)
    wanted = reference.dist(ours[0][:, :-1], theirs[0][:, :-1], activation="sigmoid")
    assert losses["loss_dist"].item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("stages", [ONE_STAGE, ["DISTILL.TEACHER.CASCADE_STAGES", "first"]])
def test_the_logit_that_nothing_trains_does_not_matter(tmp_path, stages):
    student = pair(tmp_path, *stages)
    before = losses_of(student)["loss_dist"]
    predictors = box_head.predictors(student.distillation.teacher.model.roi_heads)
    for model in (predictors, [student.roi_heads.box_predictor]):
        for predictor in model:
            predictor.cls_score.bias.data[-1] += 5
    assert torch.equal(losses_of(student)["loss_dist"], before)


def test_mean_of_the_stages_is_that_of_their_sigmoids(tmp_path):
    student = pair(tmp_path)
    heads = student.distillation.teacher.model.roi_heads
    features = student.distillation.teacher.model.backbone(torch.rand(1, 3, 64, 64))
    boxes = [box_head.Boxes(torch.tensor([[4.0, 4.0, 40.0, 40.0], [10.0, 2.0, 60.0, 30.0]]))]
    mean = box_head.cls_logits(heads, features, boxes, "mean")
    regions = box_head.pooled(heads, features, boxes)
    parts = [p(h(regions))[0][:, :-1].sigmoid() for h, p in zip(heads.box_head, heads.box_predictor, strict=True)]
    torch.testing.assert_close(mean.sigmoid(), torch.stack(parts).mean(0))


def test_a_teacher_that_is_trained_otherwise_is_refused(tmp_path):
    with pytest.raises(UserError) as refused:
        build_student(config(STUDENT, *save_teacher(tmp_path), *SIGMOID))
    assert str(refused.value) == (
        "DISTILL.DIST: cls_logits of the student goes through a sigmoid, of the teacher through a softmax: take a "
        "teacher that is trained alike, or a loss on features"
    )


def test_pictures_have_no_column_for_the_background(tmp_path):
    student = pair(tmp_path, *ONE_STAGE)
    assert DistillRCNN.class_columns(student) == ("sigmoid", ())
    with torch.no_grad():
        rows, theirs = DistillRCNN.class_rows(
            student.eval(), student.distillation.teacher, {"image": batch()[0]["image"]}
        )
    assert rows.shape[1] == theirs.shape[1] == 10
