"""DISTILL.BOX of RetinaNets and DISTILL.RPN: anchor by anchor, as Detectron2 itself decodes them."""

import copy
import math

import pytest
import torch
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.structures import Boxes, pairwise_iou
from detectron2.utils.events import EventStorage
from torchvision.ops import generalized_box_iou_loss

from densedist.common.errors import UserError
from densedist.common.losses import BoxLoss, ProposalLoss
from densedist.common.modules import record
from helpers.tiny import DIGITS, STUDENT, batch, build_student, config, save_teacher

DENSE, DENSE_TEACHER = DIGITS / "retinanet_r10_quarter.yaml", DIGITS / "retinanet_r10t.yaml"
BOX = ["DISTILL.DIST.WEIGHT", "0.0", "DISTILL.BOX.WEIGHT", "2.0"]
CROSS = ["DISTILL.CROSSKD.WEIGHT", "2.0", "DISTILL.CROSSKD.POSITION", "1", "DISTILL.CROSSKD.BOX", "0.5"]
RPN = ["DISTILL.DIST.WEIGHT", "0.0", "DISTILL.RPN.WEIGHT", "2.0"]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    return {
        "retinanet": save_teacher(folder / "retinanet", file=DENSE_TEACHER),
        "rcnn": save_teacher(folder / "rcnn"),
    }


def build(file, *overrides):
    torch.manual_seed(0)
    model = build_student(config(file, *overrides)).train()
    for side in (model, model.distillation.teacher.model):
        for name, parameter in side.named_parameters():
            if name.endswith(("bbox_pred.weight", "anchor_deltas.weight", "objectness_logits.weight")):
                torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("distance", ["giou", "smooth_l1"])
def test_anchors_by_the_teachers_highest_class_probability(teachers, distance):
    model, inputs = build(DENSE, *teachers["retinanet"], *BOX, "DISTILL.BOX.DISTANCE", distance), batch()
    teacher = model.distillation.teacher.model
    with EventStorage(), record(model.head, lambda _, output: output) as ours:
        losses = model(inputs)
    with torch.no_grad():
        maps = teacher.backbone(teacher.preprocess_image(inputs).tensor)
        features = [maps[name] for name in teacher.head_in_features]
        scores, deltas = teacher.head(features)
        anchors = teacher.anchor_generator(features)
    mine, taught, sure = [], [], []
    for level, boxes in enumerate(anchors):
        for image in range(2):
            score, their, our = (
                permute_to_N_HWA_K(x[level], k)[image] for x, k in ((scores, 10), (deltas, 4), (ours[0][1], 4))
            )
            if distance == "giou":
                taught.append(teacher.box2box_transform.apply_deltas(their, boxes.tensor))
                mine.append(model.box2box_transform.apply_deltas(our, boxes.tensor))
            else:  # both sides have the same weights
                taught.append(their)
                mine.append(our)
            sure.append(score.max(1).values)
    wanted = BoxLoss(distance)(torch.cat(mine), torch.cat([torch.cat(taught), torch.cat(sure)[:, None]], 1))
    assert wanted > 1e-3
    torch.testing.assert_close(losses["loss_box"], 2 * wanted, rtol=1e-3, atol=1e-6)
    losses["loss_box"].backward()
    assert model.head.bbox_pred.weight.grad.abs().sum() > 0


def network_of(model, features):
    """Boxes and objectness as Detectron2's own RPN has them before it chooses."""
    kept = {}
    network = model.proposal_generator

    def keep(anchors, objectness, deltas, _):
        kept["boxes"] = network._decode_proposals(anchors, deltas)
        kept["objectness"] = objectness

    network.predict_proposals, original = keep, network.predict_proposals
    training, network.training = network.training, False
    network(type("Images", (), {"image_sizes": []}), features)
    network.predict_proposals, network.training = original, training
    boxes, objectness = (torch.cat([x.flatten(0, 1) for x in kept[name]]) for name in ("boxes", "objectness"))
    return torch.cat([boxes, objectness[:, None]], 1)


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("factor", ["0.0", "0.5"])
def test_proposals_of_both_networks(teachers, factor, labels):
    model = build(STUDENT, *teachers["rcnn"], *RPN, "DISTILL.RPN.BOX", factor)
    inputs = batch() if labels else [{"image": x["image"]} for x in batch()]
    with EventStorage(), record(model.backbone, lambda _, output: output) as ours:
        losses = model(inputs)
    teacher = model.distillation.teacher.model
    with torch.no_grad():
        theirs = network_of(teacher, teacher.backbone(teacher.preprocess_image(inputs).tensor))
        mine = network_of(model, ours[0])
    loss = losses["loss_rpn" if labels else "loss_rpn_unlabeled"]
    torch.testing.assert_close(loss, 2 * ProposalLoss(float(factor))(mine, theirs), rtol=1e-4, atol=1e-6)
    loss.backward()
    head = model.proposal_generator.rpn_head
    assert head.objectness_logits.weight.grad.abs().sum() > 0
    assert (head.anchor_deltas.weight.grad.abs().sum() > 0) == (factor != "0.0")
    assert model.proposal_generator.training


def test_without_it_the_students_network_has_no_graph_on_images_without_labels(teachers):
    model = build(STUDENT, *teachers["rcnn"])
    with record(model.proposal_generator.rpn_head, lambda _, output: output[0][0].requires_grad) as graph:
        model([{"image": x["image"]} for x in batch()])
    assert graph == [False]


def test_other_anchors_are_refused(teachers, tmp_path):
    def refused(words, file, *overrides):
        with pytest.raises(UserError, match=words):
            build_student(config(file, *overrides))

    sizes = ["MODEL.ANCHOR_GENERATOR.SIZES", "[[10], [20]]"]
    refused(
        r"^DISTILL.RPN needs proposals, which this pair does not have \(MODEL.ANCHOR_GENERATOR.SIZES and "
        r"ASPECT_RATIOS: anchor .*same anchors in the same order\)",
        *(STUDENT, *save_teacher(tmp_path, *sizes), *RPN),
    )
    refused(r"\(both sides have to have a region proposal network\)", STUDENT, *teachers["retinanet"], *RPN)
    refused(r"\(.*INPUT_SCALE.*\)", STUDENT, *teachers["rcnn"], *RPN, "DISTILL.TEACHER.INPUT_SCALE", "2.0")
    refused(r"DISTILL.RPN needs proposals", DENSE, *teachers["retinanet"], *RPN)
    refused("DISTILL.RPN.BOX is -1.0: want 0 or more", STUDENT, *teachers["rcnn"], "DISTILL.RPN.BOX", "-1.0")


def authors_alignment(student, teacher):
    """The authors' align_scale, channel by channel, for (N, C, H, W)."""
    out = torch.empty_like(student)
    for channel in range(student.shape[1]):
        s, t = student[:, channel], teacher[:, channel]
        out[:, channel] = (s - s.mean()) / (s.std() + 1e-6) * t.std() + t.mean()
    return out


def crossed_by_hand(model, inputs, ours, labels):
    """DISTILL.CROSSKD of two levels and heads of two convolutions in float64, from the maps of both backbones."""
    teacher = model.distillation.teacher.model
    theirs = teacher.backbone(teacher.preprocess_image(inputs).tensor)
    heads = [copy.deepcopy(side.head).double() for side in (model, teacher)]
    maps = [[side[name].double() for name in model.head_in_features] for side in (ours, theirs)]
    sides = [[], []]  # of what the student's features become, and of the teacher's own
    for branch, last in (("cls_subnet", "cls_score"), ("bbox_subnet", "bbox_pred")):
        (first, own), final = (getattr(head, branch) for head in heads), getattr(heads[1], last)
        held = [[before(x) for x in levels] for before, levels in zip((first[:2], own[:2]), maps, strict=True)]
        moved = [authors_alignment(s, t) for s, t in zip(*held, strict=True)]
        for side, levels in zip(sides, (moved, held[1]), strict=True):
            columns = 10 if last == "cls_score" else 4
            outputs = [final(own[3:](x.relu())) for x in levels]
            side.append(torch.cat([permute_to_N_HWA_K(x, columns) for x in outputs], 1))
    anchors = teacher.anchor_generator(maps[0])
    (logits, deltas), (their_logits, their_deltas) = sides
    kept = torch.cat([widths_inside(level.tensor, inputs) for level in anchors], 1)
    places = Boxes.cat(anchors)
    total = count = 0
    for image, sample in enumerate(inputs):
        score = their_logits[image].sigmoid()
        sure = score.max(1).values
        bce = torch.nn.functional.binary_cross_entropy_with_logits(logits[image], score, reduction="none")
        boxes = [teacher.box2box_transform.apply_deltas(d[image], places.tensor) for d in (deltas, their_deltas)]
        apart = generalized_box_iou_loss(*boxes)
        each = ((logits[image].sigmoid() - score).abs() * bce).sum(1) + 0.5 * sure * apart
        if labels:
            _, matched = model.anchor_matcher(pairwise_iou(sample["instances"].gt_boxes, places))
            each = each[(matched >= 0) & kept[image]]
            count = count + max(1, int(((matched == 1) & kept[image]).sum()))
        else:
            count = count + sure.sum().clamp(min=1)
        total = total + each.sum()
    return total / count


def widths_inside(anchors, inputs):
    """(N, anchors of a level): the image with its padding to a multiple of 32; the batch is as high as each image."""
    left = (anchors[:, 0] + anchors[:, 2]) / 2
    return torch.stack([left < math.ceil(x["image"].shape[2] / 32) * 32 for x in inputs])


@pytest.mark.parametrize("labels", [True, False])
def test_the_teachers_head_on_the_students_features(teachers, labels):
    """CrossKD: the student's first block, aligned, then the teacher's second, its scores and boxes."""
    model = build(DENSE, *teachers["retinanet"], "DISTILL.DIST.WEIGHT", "0.0", *CROSS)
    inputs = batch()
    inputs[0]["instances"] = inputs[0]["instances"][:0]  # an image without an object counts as one
    if not labels:
        inputs = [{"image": x["image"]} for x in inputs]
    with EventStorage(), record(model.backbone, lambda _, output: output) as ours:
        losses = model(inputs)
    with torch.no_grad():
        wanted = 2 * crossed_by_hand(model, inputs, ours[0], labels)
    loss = losses["loss_crosskd" if labels else "loss_crosskd_unlabeled"]
    assert wanted > 1e-2
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-4, atol=1e-6)
    loss.backward()
    assert model.head.cls_subnet[0].weight.grad.abs().sum() > 0
    assert model.head.cls_subnet[3].weight.grad is None
    assert all(p.grad is None for p in model.distillation.teacher.model.parameters())


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_small_weight_is_not_lost_in_the_teachers_half_precision(teachers, precision):
    """The gradient passes the teacher's head before any scaler could help it."""

    def norm(precision, weight):
        keys = ["DISTILL.TEACHER.PRECISION", precision, "DISTILL.CROSSKD.WEIGHT", weight]
        model = build(DENSE, *teachers["retinanet"], "DISTILL.DIST.WEIGHT", "0.0", *CROSS, *keys)
        with EventStorage():
            model(batch())["loss_crosskd"].backward()
        gradients = [p.grad for p in model.head.parameters() if p.grad is not None]
        return float(torch.stack([g.double().norm() for g in gradients]).norm()) / float(weight)

    wanted = norm(precision, "1.0")
    assert wanted == pytest.approx(norm("float32", "1.0"), rel=0.05 if precision == "float16" else 0.2)
    for weight in ("1e-2", "1e-4", "1e-6"):
        assert norm(precision, weight) == pytest.approx(wanted, rel=1e-3), weight


def test_heads_that_do_not_go_together(teachers, tmp_path):
    def refused(words, *overrides):
        with pytest.raises(UserError, match=words):
            build_student(config(DENSE, "DISTILL.DIST.WEIGHT", "0.0", *overrides))

    refused(r"crossed_3, which this pair does not have: want one of crossed_1", *teachers["retinanet"], *CROSS[:2])
    wide = save_teacher(tmp_path, "MODEL.FPN.OUT_CHANNELS", "12", file=DENSE_TEACHER)
    refused(r"the student's head has convolutions of \[8, 8\] channels, the teacher's of \[12, 12\]", *wide, *CROSS)
    refused("CROSSKD.POSITION is 0: want 1 or more", *teachers["retinanet"], "DISTILL.CROSSKD.POSITION", "0")
    refused(r"the teacher is a GeneralizedRCNN, no RetinaNet", *teachers["rcnn"], *CROSS)
