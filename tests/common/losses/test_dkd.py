"""DKDLoss: values, gradients, what it has to do with KD, rows without a label, several processes."""

import math

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from densedist.common.distill.distiller import Distiller, Term, among
from densedist.common.distill.registry import LOSSES
from densedist.common.distill.taps import Tap
from densedist.common.losses import DKDLoss, KDLoss
from helpers import reference
from helpers.processes import run_processes
from helpers.tensors import logits_of_both as pair
from helpers.tensors import mask

SHAPES = [(7, 5), (2, 4, 3, 5)]


def targets(shape, seed=2, lowest=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(lowest, shape[1], shape[:1] + shape[2:], generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lowest", [0, -1], ids=["all labeled", "some not"])
@pytest.mark.parametrize("settings", [{}, {"alpha": 0.0, "beta": 8.0}, {"alpha": 2.0, "beta": 0.0, "tau": 4.0}])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_equals_float64_loops(shape, settings, lowest, dtype):
    student, teacher = pair(shape, dtype)
    target = targets(shape, lowest=lowest)
    wanted = reference.dkd(student, teacher, target, **settings)
    assert DKDLoss(**settings)(student, teacher, target=target).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_equals_finite_differences(shape):
    student, teacher = pair(shape)
    loss, target = DKDLoss(beta=2.0, tau=2.0), targets(shape, lowest=-1)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, target=target), student.requires_grad_())


def test_kd_is_the_target_part_and_the_rest_times_what_the_teacher_leaves_it():
    student, teacher = pair((1, 5))
    for target in map(torch.tensor, ([0], [3])):
        left = 1 - teacher.softmax(1)[0, target].item()
        decoupled = DKDLoss(alpha=1.0, beta=left)(student, teacher, target=target)
        assert decoupled.item() == pytest.approx(KDLoss()(student, teacher).item(), rel=1e-9)


def test_a_sure_teacher_silences_the_other_classes_in_kd_and_not_here():
    student = torch.tensor([[9.0, 1.0, 0.0, 0.0]])
    teacher = torch.tensor([[15.0, 0.0, 1.0, 0.0]])
    target = torch.tensor([0])
    assert KDLoss()(student, teacher) < 2e-3
    assert DKDLoss(beta=1.0)(student, teacher, target=target) > 0.2


def test_equal_logits_and_shifted_rows():
    student, teacher = pair((7, 5))
    target, loss = targets((7, 5)), DKDLoss()
    assert loss(student, student, target=target).item() == pytest.approx(0, abs=1e-12)
    shifted = loss(student + torch.randn(7, 1), teacher, target=target)
    assert shifted.item() == pytest.approx(loss(student, teacher, target=target).item(), rel=1e-9)


def test_rows_without_a_label_or_masked_change_nothing_even_when_nan():
    shape = (2, 4, 3, 5)
    student, teacher = pair(shape)
    valid, target = mask(shape), targets(shape, lowest=-1)
    counts = valid & (target >= 0)
    broken = student.masked_fill(~counts.unsqueeze(1), math.nan).requires_grad_()
    seen = DKDLoss()(broken, teacher, valid, target=target)
    wanted = reference.dkd(student, teacher, target.masked_fill(~valid, -1))
    assert seen.item() == pytest.approx(wanted, rel=1e-9)
    seen.backward()
    assert (broken.grad.movedim(1, -1)[~counts] == 0).all()


def test_no_label_gives_zero_with_gradient_zero():
    student, teacher = pair((7, 5))
    loss = DKDLoss()(student.requires_grad_(), teacher, target=torch.full((7,), -1))
    loss.backward()
    assert loss.item() == 0
    assert (student.grad == 0).all()


@pytest.mark.parametrize("where", ["student", "teacher"])
@pytest.mark.parametrize("column", [2, 3], ids=["target", "other"])
def test_nan_in_gives_a_non_finite_loss(where, column):
    student, teacher = pair((7, 5))
    (student if where == "student" else teacher)[3, column] = math.nan
    assert not DKDLoss()(student, teacher, target=torch.full((7,), 2)).isfinite()


def test_extreme_logits_stay_finite():
    student, teacher = (40 * x.clamp(-2, 2) for x in pair((7, 5), torch.float32))
    loss = DKDLoss()(student.requires_grad_(), teacher, target=targets((7, 5)))
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_half_precision_is_computed_in_float32_under_autocast():
    student, teacher = pair((64, 9), torch.bfloat16)
    target = targets((64, 9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = DKDLoss()(student, teacher, target=target)
    assert seen.dtype == torch.float32
    assert seen.item() == pytest.approx(reference.dkd(student, teacher, target), rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        ((7, 5), torch.zeros(7), "target: got dtype torch.float32, want torch.int64"),
        ((7, 5), torch.zeros(6, dtype=torch.long), r"target: got shape \(6,\), want \(7,\)"),
        ((7, 1), torch.zeros(7, dtype=torch.long), r"student: got one column, \(7, 1\), want two or more"),
    ],
)
def test_bad_input_raises_and_says_what_is_wanted(logits, target, message):
    with pytest.raises(ValueError, match=message):
        DKDLoss()(torch.zeros(logits), torch.zeros(logits), target=target)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": 0}, "tau: got 0, want a number above 0"),
        ({"alpha": -1}, "alpha: got -1, want 0 or more"),
        ({"beta": -1}, "beta: got -1, want 0 or more"),
    ],
)
def test_bad_settings_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        DKDLoss(**settings)


def test_targets_among_some_of_the_columns():
    target = torch.tensor([[0, 1, 2], [3, -1, 5]])
    assert among((1, 3, 5), target).tolist() == [[-1, 0, -1], [1, -1, 2]]
    assert among((0, 1), target).tolist() == [[0, 1, -1], [-1, -1, -1]]


def test_columns_that_the_teacher_does_not_know_are_no_targets():
    student, teacher = pair((7, 5))
    target, columns = targets((7, 5)), (0, 2, 4)
    term = Term("dkd", "cls_logits", 1.0, DKDLoss(), LOSSES["DKD"], columns=columns)
    seen = Distiller([term])({"cls_logits": Tap([student], [teacher], targets=lambda: [target])})["loss_dkd"]
    rows = [n for n, label in enumerate(target.tolist()) if label in columns]
    assert 0 < len(rows) < 7
    known = torch.tensor([columns.index(target[n].item()) for n in rows])
    wanted = reference.dkd(student[rows][:, columns], teacher[rows][:, columns], known)
    assert seen.item() == pytest.approx(wanted, rel=1e-9)


def compare(rank, count):
    inputs, teacher = pair((6, 5, 4))
    target = targets((6, 5, 4), lowest=-1)
    torch.manual_seed(0)
    layer = torch.nn.Conv1d(5, 5, 1, dtype=torch.float64)
    wanted = DKDLoss(tau=2.0)(layer(inputs), teacher, target=target)
    gradients = torch.autograd.grad(wanted, list(layer.parameters()))
    mine = slice(0, 2) if rank == 0 else slice(2, 6)
    parallel = DistributedDataParallel(layer)
    loss = DKDLoss(tau=2.0, sync=True)(parallel(inputs[mine]), teacher[mine], target=target[mine])
    loss.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-10, atol=0)
    for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-8, atol=1e-12)
    compare_with_nothing_on_one(rank)


def compare_with_nothing_on_one(rank):
    student, teacher = pair((6, 5))
    target = targets((6, 5))
    mine = slice(0, 0) if rank == 0 else slice(0, 6)
    term = Term("dkd", "cls_logits", 1.0, DKDLoss(sync=True), LOSSES["DKD"])
    tap = Tap([student[mine].requires_grad_()], [teacher[mine]], targets=lambda: [target[mine]])
    loss = Distiller([term])({"cls_logits": tap})["loss_dkd"]
    loss.backward()
    torch.testing.assert_close(loss, DKDLoss()(student, teacher, target=target), rtol=1e-10, atol=0)


def test_two_processes_equal_one():
    run_processes(2, compare)
