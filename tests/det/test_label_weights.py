"""Weights of labels: factors on the gradients of what a detector predicts for its RoIs, masks and anchors."""

from contextlib import ExitStack
from functools import partial

import pytest
import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from fvcore.nn import sigmoid_focal_loss
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from densedist.common.data.sides import MARK
from densedist.common.errors import UserError
from densedist.common.modules import record
from densedist.det.data.teacher_labels import IGNORED
from densedist.det.label_weights import check
from densedist.det.modeling import box_head
from helpers.processes import run_processes
from helpers.tiny import C4, HEADS, RETINANET, STUDENT, batch, build_student, config, save_teacher

STUDENTS = {
    "faster": (STUDENT, ()),
    "cascade": (STUDENT, HEADS["cascade"]),
    "mask": (STUDENT, ("MODEL.MASK_ON", "True")),
    "c4": (STUDENT, (*C4, "MODEL.MASK_ON", "True")),
    "sigmoid": (STUDENT, ("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "True")),
    "retinanet": (RETINANET, ()),
}

HALF = ["PSEUDO_LABELS.WEIGHT", "0.5"]


def build(kind, *overrides):
    file, keys = STUDENTS[kind]
    torch.manual_seed(0)
    model = build_student(config(file, *keys, *overrides)).train()
    for part in model.modules():  # batch statistics would differ between one image and two
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    return model


def samples(count=2, masks=True):
    inputs = batch(count)
    for x in inputs if masks else ():
        x["instances"].gt_masks = BitMasks(torch.ones(3, *x["image"].shape[1:], dtype=torch.bool))
    return inputs


def weigh(sample, scores, ignored=()):
    """The sample, as if a teacher had written its labels."""
    sample["instances"].gt_scores = torch.tensor(scores)
    sample[MARK] = True
    if ignored:
        sample[IGNORED] = Boxes(torch.tensor(ignored))
    return sample


def losses_of(model, inputs):
    torch.manual_seed(1)
    model.loss_normalizer = 100.0  # RetinaNet keeps a running mean of it
    with EventStorage():
        return model(inputs)


def run(model, inputs):
    """The losses, and their gradient on all parameters."""
    model.zero_grad()
    losses = losses_of(model, inputs)
    sum(losses.values()).backward()
    return losses, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def predictions(model):
    """The modules that predict what labels are compared with."""
    if not isinstance(model, GeneralizedRCNN):
        return [model.head]
    heads = [model.roi_heads.mask_head.predictor] if model.roi_heads.mask_on else []
    return [model.proposal_generator.rpn_head, *box_head.predictors(model.roi_heads), *heads]


def gradients_of(model, inputs):
    """The gradients of all predictions."""
    with ExitStack() as stack:
        outputs = [stack.enter_context(record(part, lambda _, output: output)) for part in predictions(model)]
        losses = losses_of(model, inputs)
    found = [x for output in outputs for x in leaves(output)]
    return losses, torch.autograd.grad(sum(losses.values()), found)


def leaves(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else [x for one in outputs for x in leaves(one)]


@pytest.mark.parametrize("kind", STUDENTS)
def test_weight_1_is_bitwise_the_stock_gradient(kind):
    """Where no other is in the batch, and where one is."""
    model = build(kind)
    losses, wanted = gradients_of(model, samples())
    # Convolutions of this RetinaNet round otherwise from call to call.
    equal = torch.equal if kind != "retinanet" else partial(torch.allclose, rtol=1e-4, atol=1e-8)
    weighed, found = gradients_of(model, [weigh(x, [1.0] * 3) for x in samples()])
    assert losses == weighed or kind == "retinanet"
    assert all(equal(a, b) for a, b in zip(wanted, found, strict=True))
    first, second = samples()
    half = build(kind, *HALF)
    half.load_state_dict(model.state_dict())
    _, found = gradients_of(half, [first, weigh(second, [1.0] * 3)])
    # By image, or by RoI, those of an image after those of the other.
    assert all(equal(a[0], b[0]) for a, b in zip(wanted, found, strict=True))
    assert any(equal(a[-1], 2 * b[-1]) and b[-1].any() for a, b in zip(wanted, found, strict=True))


@pytest.mark.parametrize("kind", STUDENTS)
def test_a_weight_for_all_labels_is_a_factor_on_the_gradient_and_on_no_loss(kind):
    model = build(kind)
    losses, gradients = run(model, samples())
    weighed, halved = run(build(kind, *HALF), [x | {MARK: True} for x in samples()])
    assert losses == weighed or kind == "retinanet"
    for a, b in zip(gradients, halved, strict=True):
        torch.testing.assert_close(b, a / 2, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", STUDENTS)
def test_nothing_is_left_behind(kind):
    model = build(kind)
    before = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    run(model, [weigh(x, [0.5] * 3) for x in samples()])
    with pytest.raises(KeyError), EventStorage():
        model([weigh(samples(1)[0], [0.5] * 3), {"instances": samples(1)[0]["instances"]}])
    assert before == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


MIXED = ([0.9, 0.2, 0.6], [[0.0, 0.0, 60.0, 60.0]])


def mixed():
    """A batch of an image with true labels and one with labels of a teacher."""
    true, pseudo = samples()
    return [true, weigh(pseudo, *MIXED)]


def factors_by_hand(boxes, classes, background, matched):
    """The factor of each box of the two images, by its class and the object that it has, at half the weight."""
    scores, ((x0, y0, x1, y1),) = MIXED
    found = [torch.ones(len(boxes[0]))]
    of_second = []
    for box, number, best in zip(boxes[1].tolist(), classes[1].tolist(), matched.tolist(), strict=True):
        if number != background:
            of_second.append(scores[best] / 2)
            continue
        inside = max(min(box[2], x1) - max(box[0], x0), 0) * max(min(box[3], y1) - max(box[1], y0), 0)
        area = (box[2] - box[0]) * (box[3] - box[1])
        of_second.append(0.0 if inside >= area / 2 else 0.5)
    return [*found, torch.tensor(of_second)]


def nearest(objects, boxes):
    """The number of the object with the highest IoU, for each box."""

    def iou(a, b):
        inside = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)

    return torch.tensor([max(range(3), key=lambda n: iou(objects[n], box)) for box in boxes.tolist()])


@pytest.mark.parametrize("kind", ["faster", "sigmoid"])
def test_rois_learn_as_from_explicitly_weighted_losses(kind):
    model, inputs = build(kind, *HALF), mixed()
    predictor = model.roi_heads.box_predictor
    with (
        record(predictor, lambda _, output: output) as predicted,
        record(model.roi_heads, lambda _, output: output[0]) as sampled,
    ):
        losses = losses_of(model, inputs)
    names = ("loss_cls", "loss_box_reg")
    wanted = list(model.roi_heads.parameters())
    got = torch.autograd.grad(sum(losses[name] for name in names), wanted, retain_graph=True)
    (scores, deltas), rois = predicted[0], sampled[0]
    boxes, classes = [r.proposal_boxes.tensor for r in rois], [r.gt_classes for r in rois]
    matched = nearest(inputs[1]["instances"].gt_boxes.tensor.tolist(), boxes[1])
    factors = torch.cat(factors_by_hand(boxes, classes, 10, matched))
    assert {0.0, 0.5} < set(factors[len(boxes[0]) :].tolist())
    assert len(set(factors.tolist())) > 4
    labels, count = torch.cat(classes), len(factors)
    if kind == "faster":
        of_class = (factors * F.cross_entropy(scores, labels, reduction="none")).sum() / count
    else:
        each = F.binary_cross_entropy_with_logits(
            scores[:, :-1], F.one_hot(labels, 11)[:, :-1].float(), reduction="none"
        )
        of_class = (factors[:, None] * each).sum() / count
    inside = (labels < 10).nonzero()[:, 0]
    targets = predictor.box2box_transform.get_deltas(
        torch.cat(boxes)[inside], torch.cat([r.gt_boxes.tensor for r in rois])[inside]
    )
    chosen = deltas.view(-1, 10, 4)[inside, labels[inside]]
    of_boxes = (factors[inside, None] * (chosen - targets).abs()).sum() / count
    for a, b in zip(got, torch.autograd.grad(of_class + of_boxes, wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", STUDENTS)
def test_a_box_of_no_certain_place_teaches_its_class_alone(kind):
    """Of a RoI or an anchor of another object nothing changes, nor of the masks."""
    model = build(kind)
    equal = torch.equal if kind != "retinanet" else partial(torch.allclose, rtol=1e-4, atol=1e-8)
    losses, wanted = gradients_of(model, samples())
    inputs = samples()
    for x in inputs:
        x["instances"].gt_placed = torch.tensor([1.0, 0.0, 1.0])
    weighed, found = gradients_of(model, inputs)
    assert losses == weighed or kind == "retinanet"
    same = [equal(a, b) for a, b in zip(wanted, found, strict=True)]
    assert any(same)
    assert not all(same)
    for a, b, unchanged in zip(wanted, found, same, strict=True):
        if not unchanged:
            assert b.count_nonzero() < a.count_nonzero()
            left = b != 0
            torch.testing.assert_close(b[left], a[left], rtol=1e-4, atol=1e-8)


def test_the_place_that_counts_for_nothing_is_that_of_the_object():
    model, inputs = build("faster"), samples()
    for x in inputs:
        x["instances"].gt_placed = torch.tensor([1.0, 0.0, 1.0])
    predictor = model.roi_heads.box_predictor
    with (
        record(predictor, lambda _, output: output) as predicted,
        record(model.roi_heads, lambda _, output: output[0]) as sampled,
    ):
        losses = losses_of(model, inputs)
    of_class, of_place = torch.autograd.grad(sum(losses.values()), predicted[0])
    objects = [x["instances"].gt_boxes.tensor.tolist() for x in inputs]
    matched = [nearest(each, r.proposal_boxes.tensor) for each, r in zip(objects, sampled[0], strict=True)]
    inside = torch.cat([r.gt_classes for r in sampled[0]]) < 10
    learns = inside & (torch.cat(matched) != 1)
    assert 0 < learns.sum() < inside.sum()
    assert torch.equal(of_place.any(1), learns)
    assert of_class.any(1).all()


def test_every_stage_of_a_cascade_weighs_its_own_matches(monkeypatch):
    """The gradient of what a predictor gives, by what the loss asks of it."""
    model, inputs, trained = build("cascade", *HALF), mixed(), []
    for predictor in model.roi_heads.box_predictor:
        stock = predictor.losses

        def losses(predictions, proposals, stock=stock):
            trained.append(
                (predictions, [p.proposal_boxes.tensor for p in proposals], [p.gt_classes for p in proposals])
            )
            return stock(predictions, proposals)

        monkeypatch.setattr(predictor, "losses", losses)
    with ExitStack() as stack:
        given = [stack.enter_context(record(p, lambda _, out: out)) for p in model.roi_heads.box_predictor]
        total = sum(losses_of(model, inputs).values())
    objects = inputs[1]["instances"].gt_boxes.tensor.tolist()
    assert len(trained) == 3
    for (outputs,), (predictions, boxes, classes) in zip(given, trained, strict=True):
        before, after = (torch.autograd.grad(total, x, retain_graph=True) for x in (outputs, predictions))
        factors = torch.cat(factors_by_hand(boxes, classes, 10, nearest(objects, boxes[1])))
        assert len(set(factors.tolist())) > 2
        for a, b in zip(before, after, strict=True):
            torch.testing.assert_close(a, b * factors[:, None], rtol=1e-6, atol=0)


def test_masks_learn_as_from_an_explicitly_weighted_loss():
    model, inputs = build("mask", *HALF), mixed()
    predictor = model.roi_heads.mask_head.predictor
    with (
        record(predictor, lambda _, output: output) as predicted,
        record(model.roi_heads, lambda _, output: output[0]) as sampled,
    ):
        loss = losses_of(model, inputs)["loss_mask"]
    wanted = list(predictor.parameters())
    got = torch.autograd.grad(loss, wanted, retain_graph=True)
    rois = [r[r.gt_classes < 10] for r in sampled[0]]
    factors = torch.cat([torch.ones(len(rois[0])), rois[1].gt_scores / 2])
    logits = predicted[0][torch.arange(len(factors)), torch.cat([r.gt_classes for r in rois])]
    side = logits.shape[-1]
    targets = torch.cat([r.gt_masks.crop_and_resize(r.proposal_boxes.tensor, side) for r in rois]).float()
    each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    by_hand = (factors[:, None, None] * each).mean()
    assert len(set(factors.tolist())) > 2
    for a, b in zip(got, torch.autograd.grad(by_hand, wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def anchors_by_hand(model, maps, labels, background, objects):
    """The factors (N, R) of all anchors, whose labels (N, R) training has."""
    boxes = Boxes.cat(model.anchor_generator(maps)).tensor
    matched = nearest(objects, boxes)
    return boxes, torch.stack(factors_by_hand([boxes, boxes], labels, background, matched))


def test_retinanet_learns_as_from_explicitly_weighted_losses(monkeypatch):
    model, inputs = build("retinanet", *HALF), mixed()
    given = []
    stock = model.losses
    monkeypatch.setattr(model, "losses", lambda *args: given.append(args) or stock(*args))
    with record(model.head, lambda _, output: output) as predicted:
        losses = losses_of(model, inputs)
    _, _, labels, _, gt_boxes = given[0]
    maps, deltas = predicted[0]
    wanted = list(model.head.parameters())
    got = torch.autograd.grad(losses["loss_cls"] + losses["loss_box_reg"], wanted, retain_graph=True)
    objects = inputs[1]["instances"].gt_boxes.tensor.tolist()
    anchors, factors = anchors_by_hand(model, maps, labels, 10, objects)
    labels, gt_boxes = torch.stack(labels), torch.stack(gt_boxes)
    assert {0.0, 0.5} < set(factors[1].tolist())
    logits, moved = (
        torch.cat([x.unflatten(1, (-1, k)).permute(0, 3, 4, 1, 2).flatten(1, 3) for x in levels], 1)
        for levels, k in ((maps, 10), (deltas, 4))
    )
    counts, inside = labels >= 0, (labels >= 0) & (labels < 10)
    each = sigmoid_focal_loss(
        logits[counts],
        F.one_hot(labels[counts], 11)[:, :-1].float(),
        model.focal_loss_alpha,
        model.focal_loss_gamma,
    )
    of_class = (factors[counts][:, None] * each).sum()
    targets = model.box2box_transform.get_deltas(anchors.expand(2, -1, 4)[inside], gt_boxes[inside])
    assert model.box_reg_loss_type == "smooth_l1"
    apart = (
        F.smooth_l1_loss(moved[inside], targets, beta=model.smooth_l1_beta, reduction="none")
        if (model.smooth_l1_beta)
        else (moved[inside] - targets).abs()
    )
    by_hand = (of_class + (factors[inside][:, None] * apart).sum()) / model.loss_normalizer
    for a, b in zip(got, torch.autograd.grad(by_hand, wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_region_proposals_learn_as_from_explicitly_weighted_losses(monkeypatch):
    model, inputs = build("faster", *HALF), mixed()
    network, given = model.proposal_generator, []
    stock = network.losses
    monkeypatch.setattr(network, "losses", lambda *args: given.append(args) or stock(*args))
    with record(network.rpn_head, lambda _, output: output) as predicted:
        losses = losses_of(model, inputs)
    _, _, labels, _, gt_boxes = given[0]
    maps, deltas = predicted[0]
    wanted = list(network.parameters())
    got = torch.autograd.grad(losses["loss_rpn_cls"] + losses["loss_rpn_loc"], wanted, retain_graph=True)
    objects = inputs[1]["instances"].gt_boxes.tensor.tolist()
    anchors, factors = anchors_by_hand(network, maps, labels, 0, objects)
    labels, gt_boxes = torch.stack(labels), torch.stack(gt_boxes)
    assert {0.0, 0.5} < set(factors[1][labels[1] >= 0].tolist())
    logits, moved = (
        torch.cat([x.unflatten(1, (-1, k)).permute(0, 3, 4, 1, 2).flatten(1, 3) for x in levels], 1)
        for levels, k in ((maps, 1), (deltas, 4))
    )
    counts, inside = labels >= 0, labels == 1
    each = F.binary_cross_entropy_with_logits(logits[..., 0][counts], labels[counts].float(), reduction="none")
    targets = network.box2box_transform.get_deltas(anchors.expand(2, -1, 4)[inside], gt_boxes[inside])
    total = (factors[counts] * each).sum() + (factors[inside][:, None] * (moved[inside] - targets).abs()).sum()
    by_hand = total / (network.batch_size_per_image * 2)
    for a, b in zip(got, torch.autograd.grad(by_hand, wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_distillation_counts_all_labels_alike(tmp_path):
    """Of a labeled image the teacher teaches as much as ever."""
    keys = [*save_teacher(tmp_path), "DISTILL.DIST.WEIGHT", "1.0"]
    gradients = []
    for weight in (1.0, 0.5):
        model = build("faster", *keys, "PSEUDO_LABELS.WEIGHT", weight)
        losses = losses_of(model, [x | {MARK: True} for x in samples(masks=False)])
        part = list(model.roi_heads.box_predictor.parameters())[:1]
        gradients.append(
            [torch.autograd.grad(losses[name], part, retain_graph=True)[0] for name in ("loss_dist", "loss_cls")]
        )
    (dist, task), (same, halved) = gradients
    assert torch.equal(dist, same)
    torch.testing.assert_close(halved, task / 2, rtol=1e-5, atol=1e-9)


def of_one_size():
    """The mixed batch with both images 96 pixels wide: where one is padded, its padding is background."""
    true, pseudo = mixed()
    instances = Instances((96, 96), **pseudo["instances"].get_fields())
    return [true, pseudo | {"image": pseudo["image"][:, :, :96], "instances": instances}]


def check_processes(rank, count, wanted):
    model = build("retinanet", *HALF)
    model.loss_normalizer = 50.0  # of 100, as a process has half of the images
    with EventStorage():
        parallel = DistributedDataParallel(model, find_unused_parameters=True)  # no head looks at p2
        sum(parallel([of_one_size()[rank]]).values()).backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_two_processes_learn_as_one():
    """The first has the image with true labels, the second the other."""
    _, wanted = run(build("retinanet", *HALF), of_one_size())
    run_processes(2, check_processes, wanted)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["MODEL.PROPOSAL_GENERATOR.NAME", "RRPN", "MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"], "RRPN"),
        (
            ["MODEL.KEYPOINT_ON", "True"],
            "MODEL.KEYPOINT_ON is True, which ignores the PSEUDO_LABELS weights: set",
        ),
        (
            ["MODEL.META_ARCHITECTURE", "ProposalNetwork"],
            "PSEUDO_LABELS: a ProposalNetwork ignores their weights",
        ),
    ],
)
def test_detectors_that_cannot_be_weighed_are_refused(keys, said):
    more = ["MODEL.RPN.BBOX_REG_WEIGHTS", "(1.0,1.0,1.0,1.0,1.0)"] if "RRPN" in keys else []
    with pytest.raises(UserError, match=said):
        check(build("faster", *keys, *more))
    assert isinstance(build("faster"), GeneralizedRCNN)
    check(build("faster"))
