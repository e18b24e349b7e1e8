"""STANDARDIZE of KD and DIST: what is compared are the z-scores of each row of logits."""

import pytest
import torch

from densedist.common.losses import DISTLoss, KDLoss
from densedist.common.losses.checks import standardize
from helpers import reference
from helpers.tensors import logits_of_both as pair
from helpers.tensors import mask

LOSSES = {"kd": (KDLoss, reference.kd), "dist": (DISTLoss, reference.dist)}
SHAPES = [(7, 5), (2, 4, 3, 5)]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tau", [1.0, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_is_that_of_the_z_scores(name, shape, tau, masked):
    loss, slow = LOSSES[name]
    student, teacher = pair(shape)
    valid = mask(shape) if masked else None
    rows = None if valid is None else valid.flatten()
    wanted = slow(reference.standardized(student), reference.standardized(teacher), rows, tau=tau)
    assert loss(tau=tau, standardize=True)(student, teacher, valid).item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("masked", [False, True])
def test_gradient_equals_finite_differences(name, masked):
    student, teacher = pair((2, 4, 3, 5))
    loss, valid = LOSSES[name][0](tau=2.0, standardize=True), mask(student.shape) if masked else None
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, valid), student.requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_scale_and_shift_of_a_row_do_not_matter(name):
    student, teacher = pair((7, 5))
    loss = LOSSES[name][0](standardize=True)
    scale, shift = torch.rand(7, 1) + 0.5, torch.randn(7, 1)
    wanted = loss(student, teacher).item()
    assert loss(scale * student + shift, teacher).item() == pytest.approx(wanted, rel=1e-5)
    assert loss(student, 10 * teacher).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_that_do_not_count_change_nothing_even_when_nan(name):
    student, teacher = pair((2, 4, 3, 5))
    valid, loss = mask(student.shape), LOSSES[name][0](standardize=True)
    broken = student.masked_fill(~valid.unsqueeze(1), float("nan")).requires_grad_()
    seen = loss(broken, teacher, valid)
    assert seen.item() == pytest.approx(loss(student, teacher, valid).item(), rel=1e-12)
    seen.backward()
    assert (broken.grad.movedim(1, -1)[~valid] == 0).all()


def test_z_scores_have_mean_0_and_mean_square_1():
    scores = standardize(pair((2, 9, 3, 5))[0])
    torch.testing.assert_close(scores.mean(1), torch.zeros(2, 3, 5, dtype=torch.float64))
    torch.testing.assert_close(scores.square().mean(1), torch.ones(2, 3, 5, dtype=torch.float64), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [0.0, 5.1, -0.3])
def test_equal_logits_have_no_gradient(name, value):
    student = torch.full((3, 19), value, requires_grad=True)
    loss = LOSSES[name][0](standardize=True)(student, pair((3, 19), torch.float32)[1])
    loss.backward()
    assert loss.isfinite()
    assert (student.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_widened_first(name):
    student, teacher = pair((64, 9), torch.float16)
    seen = LOSSES[name][0](standardize=True)(student, teacher)
    wanted = LOSSES[name][1](reference.standardized(student), reference.standardized(teacher))
    assert seen.dtype == torch.float32
    assert seen.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_sigmoids_are_refused(name):
    with pytest.raises(ValueError, match="standardize: got sigmoids, want a softmax over the classes"):
        LOSSES[name][0](activation="sigmoid", standardize=True)
