"""Losses on boxes, proposals, masks and generated features against float64 loops, and finite differences."""

import statistics
from functools import partial

import pytest
import torch
from torchvision.ops import generalized_box_iou_loss

from benchmarks.waits import waits
from densedist.common.distill.adapters import Generator
from densedist.common.losses import BoxLoss, CrossHeadLoss, MaskLoss, MGDLoss, ProposalLoss
from densedist.common.losses.box import giou_distance
from densedist.common.losses.cross_head import align_channels
from helpers import reference


def boxes(rows=9, seed=0, dtype=torch.float64):
    """The student's (R, 5) and the teacher's: some apart, some within one another."""
    generator = torch.Generator().manual_seed(seed)
    sides = []
    for _ in range(2):
        corner, sizes = 40 * torch.rand(rows, 2, generator=generator), 1 + 40 * torch.rand(rows, 2, generator=generator)
        logit = 2 * torch.randn(rows, 1, generator=generator)
        sides.append(torch.cat([corner, corner + sizes, logit], 1).to(dtype))
    return sides


def crossed(rows=9, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    logits = [2 * torch.randn(rows, 3, generator=generator, dtype=dtype) for _ in range(2)]
    return [torch.cat([side[:, :4], z], 1) for side, z in zip(boxes(rows, dtype=dtype), logits, strict=True)]


def cross(student, teacher):
    return CrossHeadLoss()(student, teacher, target=torch.ones(1, 2))


def targets(rows=9):
    student, teacher = boxes(rows)
    return [torch.cat([side[:, :4] / 40 - 0.5, side[:, 4:]], 1) for side in (student, teacher)]


def masks(rois=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(rois, 1, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_boxes_by_generalized_iou(dtype):
    student, teacher = boxes(dtype=dtype)
    wanted = reference.box(student, teacher)
    for columns in (4, 5):
        assert float(BoxLoss()(student[:, :columns], teacher)) == pytest.approx(wanted, rel=1e-6)


def test_generalized_iou_is_torchvisions_and_never_waits():
    pair = [side[:, :4].requires_grad_() for side in boxes(rows=50)]
    wanted = generalized_box_iou_loss(*pair)
    slopes = torch.autograd.grad(wanted.square().sum(), pair)
    with waits() as seen:
        found = giou_distance(*pair)
        ours = torch.autograd.grad(found.square().sum(), pair)
    assert seen == []
    torch.testing.assert_close([found, *ours], [wanted, *slopes], rtol=1e-12, atol=1e-12)


def test_boxes_without_an_area_have_a_distance():
    points = torch.tensor([[3.0, 4.0, 3.0, 4.0]], requires_grad=True)
    distance = giou_distance(points, points.detach())
    distance.sum().backward()
    assert distance.isfinite().all()
    assert points.grad.isfinite().all()


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_regression_targets_by_smooth_l1(beta):
    student, teacher = targets()
    wanted = reference.box(student, teacher, "smooth_l1", beta)
    assert float(BoxLoss("smooth_l1", beta)(student, teacher)) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("factor", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_proposals(factor, dtype):
    student, teacher = boxes(dtype=dtype)
    wanted = reference.proposals(student, teacher, factor)
    assert float(ProposalLoss(factor)(student, teacher)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("factor", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_predictions_behind_the_same_head(factor, dtype):
    """An image with two objects, one with none, and one without labels, of three anchors each."""
    student, teacher = crossed(dtype=dtype)
    objects = torch.tensor([[1, -1, 1], [0, 0, -1], [-1, -1, -1]])
    for some in (objects, objects[:1].expand(3, 3), objects[2:].expand(3, 3)):
        wanted = reference.cross_head(student, teacher, some, factor)
        assert float(CrossHeadLoss(factor)(student, teacher, target=some)) == pytest.approx(wanted, rel=1e-6)


def test_anchors_that_labels_leave_open_get_no_gradient():
    student, teacher = crossed()
    objects = torch.tensor([[1, -1, 0], [0, 0, -1], [0, 1, 1]])
    CrossHeadLoss()(student.requires_grad_(), teacher, target=objects).backward()
    assert (student.grad.abs().sum(1) > 0).tolist() == (objects.flatten() >= 0).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_channels_are_aligned_as_by_the_authors(dtype):
    """Their code, for each channel: (x - mean) / (deviation + 1e-6) · theirs + their mean, deviations of a sample."""
    torch.manual_seed(0)
    student, teacher = (3 * torch.randn(2, 4, 5, 6, dtype=torch.float64) + shift for shift in (2, -1))
    student[:, 1] = 0.3  # a constant channel: the teacher's mean
    student, teacher = student.to(dtype), teacher.to(dtype)
    found = align_channels(student.requires_grad_(), teacher)
    for channel in range(4):
        x, y = (side[:, channel].double().flatten().tolist() for side in (student.detach(), teacher))
        (mean, deviation), (their_mean, their_deviation) = ((statistics.mean(v), statistics.stdev(v)) for v in (x, y))
        wanted = [(v - mean) / (deviation + 1e-6) * their_deviation + their_mean for v in x]
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        assert found[:, channel].flatten().tolist() == pytest.approx(wanted, rel=tolerance, abs=tolerance)
    found.square().sum().backward()
    assert student.grad.isfinite().all()
    assert student.grad[:, 1].abs().sum() == 0


def test_gradient_of_the_alignment():
    student, teacher = (torch.randn(2, 2, 3, 2, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda x: align_channels(x, teacher), student.requires_grad_())


def test_masks_keep_correlations_over_pixels_and_over_rois():
    student, teacher = masks()
    wanted = reference.dist(student.flatten(1), teacher.flatten(1), tau=2.0, activation="sigmoid")
    assert float(MaskLoss("dist", 2.0)(student, teacher)) == pytest.approx(wanted, rel=1e-9)


def test_masks_pixel_by_pixel():
    student, teacher = masks()
    wanted = reference.kd(student, teacher, tau=2.0, activation="sigmoid")
    assert float(MaskLoss("kd", 2.0)(student, teacher)) == pytest.approx(wanted, rel=1e-9)


def test_generated_features():
    student, teacher = (torch.randn(2, 3, 5, 4, dtype=torch.float64) for _ in range(2))
    assert float(MGDLoss()(student, teacher)) == pytest.approx(reference.mgd(student, teacher), rel=1e-9)


@pytest.mark.parametrize(
    ("loss", "pair"),
    [
        (BoxLoss(), boxes(4)),
        (BoxLoss("smooth_l1"), targets(4)),
        (BoxLoss("smooth_l1", 0.3), targets(4)),
        (ProposalLoss(), boxes(4)),
        (partial(CrossHeadLoss(), target=torch.tensor([[1, -1], [-1, -1]])), crossed(4)),
        (MaskLoss("dist"), masks(3)),
        (MaskLoss("kd", 2.0), masks(3)),
        (MGDLoss(), [x.reshape(2, 1, 2, 4) for x in masks(1)]),
    ],
)
def test_gradients(loss, pair):
    student, teacher = pair
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), student.clone().requires_grad_())


@pytest.mark.parametrize(
    ("loss", "rows"),
    [
        (BoxLoss(), boxes()),
        (BoxLoss("smooth_l1"), targets()),
        (ProposalLoss(), boxes()),
        (partial(CrossHeadLoss(), target=torch.ones(1, 9)), crossed()),
        (MaskLoss(), masks(9)),
    ],
)
def test_the_order_of_rows_does_not_matter_and_the_teachers_own_lose_nothing(loss, rows):
    student, teacher = rows
    order = torch.randperm(9)
    torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher))
    assert float(loss(teacher, teacher)) == pytest.approx(0, abs=1e-6)


def test_boxes_count_as_far_as_the_teacher_sees_an_object():
    student, teacher = boxes()
    sure, never = teacher.clone(), teacher.clone()
    sure[:, 4], never[:, 4] = 100, -100
    far = [1 - reference.giou(s[:4], t[:4]) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert float(BoxLoss()(student, sure)) == pytest.approx(sum(far) / 9)
    assert float(BoxLoss()(student, never)) == pytest.approx(0, abs=1e-9)
    # Less than one object in all: the loss fades out.
    never[0, 4] = -5
    assert float(BoxLoss()(student, never)) == pytest.approx(far[0] / (1 + torch.tensor(5.0).exp().item()), rel=1e-6)
    keep = torch.arange(9) < 4
    assert float(BoxLoss()(student, sure, keep)) == pytest.approx(sum(far[:4]) / 4)


def test_anchors_with_an_object_weigh_as_much_as_all_others():
    """One anchor of a thousand has an object, and the student sees none: half of its divergence remains."""
    rows = torch.zeros(1000, 5, dtype=torch.float64)
    rows[:, 2:4] = 8
    student, teacher = rows.clone(), rows.clone()
    student[:, 4], teacher[:, 4] = -3, -20
    teacher[0, 4] = 20
    logit = torch.tensor(-3.0, dtype=torch.float64)
    wanted = -(torch.nn.functional.logsigmoid(logit) + torch.nn.functional.logsigmoid(-logit)) / 2
    torch.testing.assert_close(ProposalLoss(0.0)(student, teacher), wanted, rtol=1e-4, atol=0)


def test_the_generator_sees_a_part_of_the_places():
    torch.manual_seed(0)
    generator = Generator(3, 4, 0.25)
    seen = []
    generator.generate.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert generator(torch.ones(2, 3, 40, 40)).shape == (2, 4, 40, 40)
    hidden = seen[0] == 0
    assert torch.equal(hidden, hidden[:, :1].expand(-1, 4, -1, -1))
    assert float(hidden.float().mean()) == pytest.approx(0.25, abs=0.03)
    assert isinstance(Generator(4, 4, 0.5).align, torch.nn.Identity)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BoxLoss("l2"), "distance: got 'l2', want one of giou, smooth_l1"),
        (lambda: BoxLoss(beta=-1.0), "beta: got -1.0, want 0 or more"),
        (lambda: ProposalLoss(-1.0), "box: got -1.0, want 0 or more"),
        (lambda: CrossHeadLoss(-1.0), "box: got -1.0, want 0 or more"),
        (lambda: cross(torch.ones(2, 4), torch.ones(2, 4)), r"student: got 4 columns, \(2, 4\), want 5 or"),
        (lambda: cross(torch.ones(2, 5), torch.ones(2, 6)), r"teacher: got shape \(2, 6\), want the stu"),
        (
            lambda: cross(torch.ones(4, 5), torch.ones(4, 5)),
            r"target: got shape \(1, 2\), want \(images, anchors\) of 4",
        ),
        (lambda: MaskLoss("dice"), "kind: got 'dice', want one of dist, kd"),
        (lambda: BoxLoss()(torch.ones(2, 3), torch.ones(2, 5)), r"student: got 3 columns, \(2, 3\), want 4 or 5"),
        (lambda: BoxLoss()(torch.ones(2, 4), torch.ones(2, 4)), r"teacher: got 4 columns, \(2, 4\), want 5"),
        (lambda: ProposalLoss()(torch.ones(2, 4), torch.ones(2, 5)), r"student: got 4 columns, \(2, 4\), want 5"),
        (lambda: BoxLoss()(torch.ones(2, 4), torch.ones(3, 5)), "teacher: got 3 rows, want the student's 2"),
        (lambda: BoxLoss()(torch.ones(0, 4), torch.ones(0, 5)), r"student: got empty shape \(0, 4\)"),
        (lambda: MGDLoss()(torch.ones(2, 4), torch.ones(2, 4)), r"student: got shape \(2, 4\), want 4 dimensions"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
