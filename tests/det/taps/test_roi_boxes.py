"""DISTILL.BOX on RoIs: which boxes of which class are compared, worked out row by row with each side's own deltas."""

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.utils.events import EventStorage

from densedist.common.errors import UserError
from densedist.common.losses import BoxLoss
from densedist.common.modules import record
from densedist.det.modeling import box_head
from helpers.tiny import STUDENT, batch, build_student, config, save_teacher

BOX = ["DISTILL.DIST.WEIGHT", "0.0", "DISTILL.BOX.WEIGHT", "2.0"]
AGNOSTIC = ["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"]
CASCADE = ["MODEL.ROI_HEADS.NAME", "CascadeROIHeads", *AGNOSTIC]
STANDARD = ["MODEL.ROI_HEADS.NAME", "StandardROIHeads"]
SPECIFIC = [*STANDARD, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "False"]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    weights = ["MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", "(5.0, 5.0, 4.0, 4.0)"]
    kinds = {"cascade": [], "specific": [*SPECIFIC, *weights], "sigmoid": ["MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "True"]}
    return {name: save_teacher(folder / name, *keys) for name, keys in kinds.items()}


def build(*overrides):
    torch.manual_seed(0)
    model = build_student(config(STUDENT, *overrides)).train()
    for side in (model, model.distillation.teacher.model):  # at first all boxes are where the RoIs are
        for predictor in box_head.predictors(side.roi_heads):
            torch.nn.init.normal_(predictor.bbox_pred.weight, std=0.3)
    return model


def run(model, inputs):
    """The losses; RoIs, and what the student's predictor gave, by call."""
    heads = model.roi_heads
    with record(box_head.pooler(heads), lambda args, _: args[1]) as rois, EventStorage():
        given = []
        for predictor in box_head.predictors(heads):
            predictor.register_forward_hook(lambda _, __, output: given.append(output))
        losses = model(inputs)
    return losses, rois, given


def of_teacher(model, inputs, rois):
    """Class logits and deltas of the teacher's (first) head."""
    teacher = model.distillation.teacher.model
    heads = teacher.roi_heads
    with torch.no_grad():
        maps = teacher.backbone(teacher.preprocess_image(inputs).tensor)
        pooled = heads.box_pooler([maps[name] for name in heads.box_in_features], rois)
        if isinstance(heads.box_head, torch.nn.ModuleList):
            return heads.box_predictor[0](heads.box_head[0](pooled))
        return heads.box_predictor(heads.box_head(pooled))


def rows(scores, theirs, ours, references, weights, sigmoids=False):
    """The student's and the teacher's boxes, and the weight of each row, one by one.

    Args:
        weights: of the transforms of both sides.
    """
    mine, taught, sure = [], [], []
    for logits, their, our, reference in zip(scores, theirs, ours, references, strict=True):
        if sigmoids:
            probabilities = logits[:-1].sigmoid()
            certain = probabilities.max()
        else:
            probabilities = logits.softmax(0)[:-1]
            certain = probabilities.sum()
        number = int(probabilities.argmax())
        boxes = []
        for deltas, weight in ((our, weights[0]), (their, weights[1])):
            of_class = deltas if len(deltas) == 4 else deltas[4 * number : 4 * number + 4]
            boxes.append(Box2BoxTransform(weight).apply_deltas(of_class[None], reference[None])[0])
        mine.append(boxes[0])
        taught.append(boxes[1])
        sure.append(certain)
    return torch.stack(mine), torch.stack(taught), torch.stack(sure)


@pytest.mark.parametrize("distance", ["giou", "smooth_l1"])
@pytest.mark.parametrize("student", ["specific", "agnostic"])
@pytest.mark.parametrize("teacher", ["cascade", "specific", "sigmoid"])
def test_box_of_the_class_that_the_teacher_finds_likeliest(teachers, teacher, student, distance):
    keys = [*BOX, *(AGNOSTIC if student == "agnostic" else []), "DISTILL.BOX.DISTANCE", distance]
    if teacher == "sigmoid":
        keys += ["MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "True"]
    model, inputs = build(*teachers[teacher], *keys), batch()
    losses, (rois,), ((_, ours),) = run(model, inputs)
    scores, theirs = of_teacher(model, inputs, rois)
    references = torch.cat([of_image.tensor for of_image in rois])
    weights = (10.0, 10.0, 5.0, 5.0), (5.0, 5.0, 4.0, 4.0) if teacher == "specific" else (10.0, 10.0, 5.0, 5.0)
    mine, taught, sure = rows(scores, theirs, ours, references, weights, teacher == "sigmoid")
    if distance == "smooth_l1":
        transform = Box2BoxTransform(weights[0])
        mine, taught = (transform.get_deltas(references, side) for side in (mine, taught))
    wanted = BoxLoss(distance)(mine, torch.cat([taught, sure.logit(eps=1e-6)[:, None]], 1))
    assert wanted > 0.05
    torch.testing.assert_close(losses["loss_box"], 2 * wanted, rtol=1e-4, atol=1e-5)
    losses["loss_box"].backward()
    assert model.roi_heads.box_predictor.bbox_pred.weight.grad.abs().sum() > 0


def test_each_stage_of_a_cascade_learns_from_its_own_boxes(teachers):
    model, inputs = build(*teachers["cascade"], *BOX, *CASCADE), batch()
    losses, calls, given = run(model, inputs)
    assert len(calls) == len(given) == 3
    weights = [(10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0)]
    total = 0
    for rois, (_, ours), own in zip(calls, given, weights, strict=True):
        scores, theirs = of_teacher(model, inputs, rois)
        references = torch.cat([of_image.tensor for of_image in rois])
        mine, taught, sure = rows(scores, theirs, ours, references, (own, weights[0]))
        total = total + BoxLoss()(mine, torch.cat([taught, sure.logit(eps=1e-6)[:, None]], 1))
    torch.testing.assert_close(losses["loss_box"], 2 * total, rtol=1e-4, atol=1e-5)


def test_a_cascades_last_boxes_are_those_that_it_predicts_with(teachers):
    """Refined in Detectron2's own inference, without its choice of boxes."""
    model = build(*teachers["cascade"], *BOX, "DISTILL.BOX.STAGES", "refined")
    inputs = batch()
    losses, (rois,), ((_, ours),) = run(model, inputs)
    scores, _ = of_teacher(model, inputs, rois)
    teacher = model.distillation.teacher.model
    heads = teacher.roi_heads
    with torch.no_grad():
        maps = teacher.backbone(teacher.preprocess_image(inputs).tensor)
        features = [maps[name] for name in heads.box_in_features]
        proposals = heads._create_proposals_from_boxes(
            [of_image.tensor for of_image in rois], [x["image"].shape[1:] for x in inputs]
        )
        for stage in range(3):
            boxes = heads.box_predictor[stage].predict_boxes(heads._run_stage(features, proposals, stage), proposals)
            if stage < 2:
                proposals = heads._create_proposals_from_boxes(boxes, [x["image"].shape[1:] for x in inputs])
    references = torch.cat([of_image.tensor for of_image in rois])
    own = (10.0, 10.0, 5.0, 5.0)
    mine, _, sure = rows(scores, torch.zeros(len(scores), 4), ours, references, (own, own))
    wanted = BoxLoss()(mine, torch.cat([torch.cat(boxes), sure.logit(eps=1e-6)[:, None]], 1))
    torch.testing.assert_close(losses["loss_box"], 2 * wanted, rtol=1e-4, atol=1e-5)


def test_first_costs_the_teacher_no_call_more(teachers):
    """The head that gives the class logits gives the deltas, too."""
    calls = {}
    for name, keys in (("dist", []), ("dist and box", ["DISTILL.BOX.WEIGHT", "1.0"])):
        model = build(*teachers["cascade"], *keys)
        teacher, count = model.distillation.teacher.model, []
        for part in teacher.modules():
            part.register_forward_hook(lambda *_, count=count: count.append(1))
        with EventStorage():
            model(batch())
        calls[name] = len(count)
    assert calls["dist"] == calls["dist and box"]


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_teacher_at_another_scale_puts_boxes_in_the_students_pixels(teachers, scale):
    """Its deltas do not depend on the size, so with the same logits and deltas the boxes are the same."""
    keys = [*teachers["cascade"], *BOX, "DISTILL.BOX.STAGES", "refined"]
    found = []
    for factor in (1.0, scale):
        model = build(*keys, "DISTILL.TEACHER.INPUT_SCALE", factor)
        for predictor in box_head.predictors(model.distillation.teacher.model.roi_heads):
            for layer in (predictor.cls_score, predictor.bbox_pred):  # whatever it sees
                layer.weight.data.zero_()
            predictor.bbox_pred.bias.data = torch.tensor([1.0, -1.0, 0.5, 0.2])
            predictor.cls_score.bias.data[0] = 5
        torch.manual_seed(0)
        with EventStorage():
            found.append(model(batch())["loss_box"])
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)


def test_classes_of_another_set_are_told_apart(tmp_path):
    """The teacher's class 11 is the student's 3; what it takes for its 0, which the student lacks, is no object."""
    names = ["sky", *(str(number) for number in range(10)), "more of 3"]
    keys = ["MODEL.ROI_HEADS.NUM_CLASSES", "12", "DATASETS.TRAIN", "[]", "DATASETS.CLASSES", str(names), *SPECIFIC]
    keys = [*save_teacher(tmp_path, *keys), "DISTILL.TEACHER.CLASSES.3", "['3', 'more of 3']"]
    model, inputs = build(*keys, *BOX), batch()
    predictor = model.distillation.teacher.model.roi_heads.box_predictor
    for layer in (predictor.cls_score, predictor.bbox_pred):
        layer.weight.data.zero_()
        layer.bias.data.zero_()
    predictor.bbox_pred.bias.data[4 * 11 : 4 * 12] = torch.tensor([2.0, 0.0, 0.0, 1.0])
    predictor.cls_score.bias.data[11] = 20
    losses, (rois,), ((_, ours),) = run(model, inputs)
    references = torch.cat([of_image.tensor for of_image in rois])
    transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    mine = transform.apply_deltas(ours[:, 12:16], references)
    taught = transform.apply_deltas(torch.tensor([[2.0, 0.0, 0.0, 1.0]]).expand(len(mine), -1), references)
    sure = torch.full((len(mine), 1), 20.0)
    wanted = BoxLoss()(mine, torch.cat([taught, sure], 1))
    torch.testing.assert_close(losses["loss_box"], 2 * wanted, rtol=1e-4, atol=1e-5)
    predictor.cls_score.bias.data[0] = 60
    with EventStorage():
        assert model(batch())["loss_box"] < 1e-6


def test_the_proposals_of_images_without_labels_teach_boxes(teachers):
    model = build(*teachers["cascade"], *BOX)
    with EventStorage():
        losses = model([{"image": x["image"]} for x in batch()])
    assert set(losses) == {"loss_box_unlabeled"}
    losses["loss_box_unlabeled"].backward()
    assert model.roi_heads.box_predictor.bbox_pred.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("distance", ["giou", "smooth_l1"])
def test_batch_without_any_roi_gives_a_zero_with_gradient(teachers, distance):
    model = build(*teachers["cascade"], *BOX, "DISTILL.BOX.DISTANCE", distance)
    inputs = batch()
    for x in inputs:
        x["instances"] = x["instances"][:0]
    model.proposal_generator.post_nms_topk[True] = 0
    with EventStorage():
        loss = model(inputs)["loss_box"]
    assert loss == 0
    assert loss.requires_grad


def test_what_a_pair_lacks_is_said(teachers, tmp_path):
    def refused(words, *overrides):
        with pytest.raises(UserError, match=words):
            build_student(config(STUDENT, *overrides))

    refused(
        r"DISTILL.BOX needs refined_boxes, which this pair does not have \(the teacher is no cascade\): want one of "
        "boxes, deltas",
        *(*teachers["specific"], *BOX, "DISTILL.BOX.STAGES", "refined"),
    )
    more = ["DISTILL.TEACHER.MORE", str([{"CONFIG_FILE": teachers["specific"][1], "WEIGHTS": teachers["specific"][3]}])]
    refused(r"DISTILL.BOX .* \(of several teachers only class probabilities", *teachers["cascade"], *more, *BOX)
    refused("BOX.DISTANCE is l2: want giou or smooth_l1", *teachers["cascade"], *BOX, "DISTILL.BOX.DISTANCE", "l2")
    refused("DISTILL.BOX.STAGES is last: want first or refined", *teachers["cascade"], "DISTILL.BOX.STAGES", "last")
    refused("CACHE is for losses on class logits", *teachers["cascade"], *BOX, "DISTILL.TEACHER.CACHE", tmp_path)
