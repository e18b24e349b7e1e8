"""DISTILL.BOX of RetinaNets and DISTILL.RPN: anchor by anchor, as Detectron2 itself decodes them."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.utils.events import EventStorage

from densedist.common.errors import UserError
from densedist.common.losses import BoxLoss, CrossHeadLoss, ProposalLoss
from densedist.common.modules import record
from helpers.tiny import DIGITS, STUDENT, batch, config, save_teacher

DENSE, DENSE_TEACHER = DIGITS / "retinanet_r10_quarter.yaml", DIGITS / "retinanet_r10t.yaml"
BOX = ["DISTILL.DIST.WEIGHT", "0.0", "DISTILL.BOX.WEIGHT", "2.0"]
CROSS = ["DISTILL.CROSSKD.WEIGHT", "2.0", "DISTILL.CROSSKD.POSITION", "1", "DISTILL.CROSSKD.BOX", "0.5"]
LAST = ("cls_score", "bbox_pred")
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
    model = build_model(config(file, *overrides)).train()
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
            build_model(config(file, *overrides))

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


@pytest.mark.parametrize("labels", [True, False])
def test_the_teachers_head_on_the_students_features(teachers, labels):
    """CrossKD: layer by layer, the student's first block, then the teacher's second, its scores and boxes."""
    model = build(DENSE, *teachers["retinanet"], "DISTILL.DIST.WEIGHT", "0.0", *CROSS)
    inputs = batch() if labels else [{"image": x["image"]} for x in batch()]
    with EventStorage(), record(model.backbone, lambda _, output: output) as ours:
        losses = model(inputs)
    teacher = model.distillation.teacher.model
    heads, features = (model.head, teacher.head), [ours[0][name] for name in model.head_in_features]
    maps = teacher.backbone(teacher.preprocess_image(inputs).tensor)
    own = teacher.head([maps[name] for name in teacher.head_in_features])
    blocks = {"cls_subnet": [], "bbox_subnet": []}
    for name, outputs in blocks.items():
        first = getattr(heads[0], name)[:3]  # in training: by the batch's own mean
        for x in features:
            outputs.append(getattr(heads[1], name)[3:](first(x)))
    crossed = [[getattr(heads[1], last)(x) for x in blocks[name]] for name, last in zip(blocks, LAST, strict=True)]
    anchors = torch.cat([x.tensor.repeat(2, 1) for x in teacher.anchor_generator(features)])
    rows = []
    for logits, deltas in (crossed, own):
        scores, places = (
            torch.cat([permute_to_N_HWA_K(x, k).flatten(0, 1) for x in side]) for side, k in ((logits, 10), (deltas, 4))
        )
        rows.append(torch.cat([teacher.box2box_transform.apply_deltas(places, anchors), scores], 1))
    loss = losses["loss_crosskd" if labels else "loss_crosskd_unlabeled"]
    torch.testing.assert_close(loss, 2 * CrossHeadLoss(0.5)(*rows), rtol=1e-4, atol=1e-6)
    loss.backward()
    assert heads[0].cls_subnet[0].weight.grad.abs().sum() > 0
    assert heads[0].cls_subnet[3].weight.grad is None
    assert all(p.grad is None for p in teacher.parameters())


def test_heads_that_do_not_go_together(teachers, tmp_path):
    def refused(words, *overrides):
        with pytest.raises(UserError, match=words):
            build_model(config(DENSE, "DISTILL.DIST.WEIGHT", "0.0", *overrides))

    refused(r"crossed_3, which this pair does not have: want one of crossed_1", *teachers["retinanet"], *CROSS[:2])
    wide = save_teacher(tmp_path, "MODEL.FPN.OUT_CHANNELS", "12", file=DENSE_TEACHER)
    refused(r"the student's head has convolutions of \[8, 8\] channels, the teacher's of \[12, 12\]", *wide, *CROSS)
    refused("CROSSKD.POSITION is 0: want 1 or more", *teachers["retinanet"], "DISTILL.CROSSKD.POSITION", "0")
    refused(r"the teacher is a GeneralizedRCNN, no RetinaNet", *teachers["rcnn"], *CROSS)
