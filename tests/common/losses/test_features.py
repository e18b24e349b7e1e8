"""Losses on features against float64 loops, finite differences, and what must not change them."""

import math

import pytest
import torch

from densedist.common.losses import AttentiveMimicLoss, CIRKDLoss, CWDLoss, MimicLoss, PKDLoss, RKDLoss
from helpers import reference
from helpers.tensors import features_of_both as pair

MAPS = {"mimic": MimicLoss(), "cwd": CWDLoss(), "pkd": PKDLoss(), "attention": AttentiveMimicLoss()}
MAPS |= {"cirkd": CIRKDLoss()}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_feature_maps_equal_the_formula(name, dtype):
    student, teacher = pair((2, 3, 5, 4), dtype=dtype)
    wanted = getattr(reference, name)(student, teacher)
    assert float(MAPS[name](student, teacher)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_cwd_at_other_temperatures(tau):
    student, teacher = pair((2, 3, 5, 4))
    assert float(CWDLoss(tau)(student, teacher)) == pytest.approx(reference.cwd(student, teacher, tau), rel=1e-9)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("weights", [(25.0, 50.0), (1.0, 0.0), (0.0, 2.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rkd_equals_the_formula(normalize, weights, dtype):
    student, teacher = pair((7, 5), (7, 9), dtype=dtype)
    wanted = reference.rkd(student, teacher, *weights, normalize)
    assert float(RKDLoss(*weights, normalize)(student, teacher)) == pytest.approx(wanted, rel=2e-6)


@pytest.mark.parametrize("name", MAPS)
def test_gradients_of_feature_maps(name):
    student, teacher = pair((2, 3, 3, 2))
    assert torch.autograd.gradcheck(lambda x: MAPS[name](x, teacher), student.requires_grad_())


@pytest.mark.parametrize("normalize", [True, False])
def test_gradients_of_rkd(normalize):
    student, teacher = pair((5, 3), (5, 4))
    assert torch.autograd.gradcheck(lambda x: RKDLoss(normalize=normalize)(x, teacher), student.requires_grad_())


@pytest.mark.parametrize("loss", [*MAPS.values()])
def test_same_features_lose_nothing(loss):
    student, _ = pair((2, 3, 5, 4))
    assert float(loss(student, student)) == pytest.approx(0, abs=1e-9)


def test_cwd_does_not_see_a_shift_of_a_channel():
    student, teacher = pair((2, 3, 5, 4))
    shift = torch.randn(2, 3, 1, 1, dtype=torch.float64)
    assert torch.allclose(CWDLoss()(student + shift, teacher), CWDLoss()(student, teacher))


def test_pkd_does_not_see_scale_and_shift_of_a_channel():
    student, teacher = pair((2, 3, 5, 4))
    scale, shift = torch.rand(1, 3, 1, 1, dtype=torch.float64) + 0.5, torch.randn(1, 3, 1, 1, dtype=torch.float64)
    assert torch.allclose(PKDLoss()(student * scale + shift, teacher), PKDLoss()(student, teacher), rtol=1e-5)
    assert float(PKDLoss()(-student, student)) == pytest.approx(2, rel=1e-5)


def test_pkd_is_one_minus_the_correlation_of_the_channels():
    student, teacher = pair((2, 3, 5, 4))
    channels = zip(*(x.transpose(0, 1).flatten(1).tolist() for x in (student, teacher)), strict=True)
    wanted = sum(1 - reference.pearson(a, b) for a, b in channels) / 3
    assert float(PKDLoss()(student, teacher)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -731.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pkd_of_a_constant_channel_is_half_without_a_gradient(value, dtype):
    """Rounding of its mean, divided by that rounding, was up to 0.7 for 0.5, and the gradient 1e6 times too large."""
    student, teacher = (torch.randn(2, 3, 41, 37, dtype=dtype) for _ in range(2))
    wanted = torch.stack([PKDLoss()(student[:, [c]], teacher[:, [c]]) for c in (0, 2)])
    flat, moved = torch.full_like(student[:, 1], value), student.clone()
    moved[:, 1] = flat
    loss = PKDLoss()(moved.requires_grad_(), teacher)
    assert loss.item() == pytest.approx(float((wanted.sum() + 0.5) / 3), rel=1e-5)
    loss.backward()
    assert torch.equal(moved.grad[:, 1], torch.zeros_like(flat))
    assert moved.grad.norm() < 1
    constant = teacher.clone()
    constant[:, 1] = flat
    assert float(PKDLoss()(student, constant)) == pytest.approx(float((wanted.sum() + 0.5) / 3), rel=1e-5)
    assert float(PKDLoss()(moved, constant)) == pytest.approx(float(wanted.sum() / 3), rel=1e-5)


def test_cirkd_of_a_place_without_features_has_no_gradient_there():
    student, teacher = pair((2, 3, 5, 4))
    student[0, :, 1, 2] = 0
    CIRKDLoss()(student.requires_grad_(), teacher).backward()
    assert (student.grad[0, :, 1, 2] == 0).all()
    assert 0 < student.grad.norm() < 100


def test_rkd_does_not_see_rotation_translation_and_scale():
    student, teacher = pair((7, 5), (7, 9))
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    moved = 3 * student @ rotation + torch.randn(5, dtype=torch.float64)
    loss = RKDLoss(normalize=False)
    assert torch.allclose(loss(moved, teacher), loss(student, teacher))


def test_rkd_does_not_see_the_order_of_the_samples():
    student, teacher = pair((7, 5), (7, 9))
    order = torch.randperm(7)
    assert torch.allclose(RKDLoss()(student[order], teacher[order]), RKDLoss()(student, teacher))


def test_rkd_of_equal_samples_has_a_finite_gradient():
    student, teacher = pair((6, 5), (6, 9))
    student[1] = student[0]
    same = torch.ones(6, 5, dtype=torch.float64)
    for x in (student.clone(), same):
        loss = RKDLoss()(x.requires_grad_(), teacher)
        loss.backward()
        assert math.isfinite(loss)
        assert torch.isfinite(x.grad).all()


def test_rkd_of_two_samples_is_zero_with_a_gradient_and_a_warning():
    student, teacher = pair((2, 5))
    with pytest.warns(UserWarning, match="three samples or more"):
        loss = RKDLoss()(student.requires_grad_(), teacher)
    loss.backward()
    assert loss == 0
    assert not student.grad.any()


@pytest.mark.parametrize("loss", [*MAPS.values(), RKDLoss()])
def test_nan_comes_out_and_the_teacher_gets_no_gradient(loss):
    shape = (4, 3) if isinstance(loss, RKDLoss) else (2, 3, 5, 4)
    student, teacher = pair(shape)
    teacher.requires_grad_()
    loss(student.requires_grad_(), teacher).backward()
    assert teacher.grad is None
    student = student.detach().clone()
    student.view(-1)[3] = math.nan
    assert not math.isfinite(loss(student, teacher))


@pytest.mark.parametrize("loss", [*MAPS.values(), RKDLoss()])
def test_half_precision_is_widened(loss):
    shape = (4, 3) if isinstance(loss, RKDLoss) else (2, 3, 5, 4)
    student, teacher = pair(shape, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(student, teacher)
    assert half.dtype == torch.float32
    assert torch.allclose(half, loss(student.float(), teacher.float()), rtol=2e-2)


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "message"),
    [
        (MimicLoss(), (2, 3), (2, 4), r"teacher: got shape \(2, 4\), want the student's \(2, 3\)"),
        (MimicLoss(), (0, 3), (0, 3), r"student: got empty shape \(0, 3\)"),
        (CWDLoss(), (2, 3, 4), (2, 3, 4), r"student: got shape \(2, 3, 4\), want 4 dimensions"),
        (PKDLoss(), (2, 3, 4), (2, 3, 4), r"student: got shape \(2, 3, 4\), want 4 dimensions"),
        (CIRKDLoss(), (2, 3, 4), (2, 3, 4), r"student: got shape \(2, 3, 4\), want 4 dimensions"),
        (
            CIRKDLoss(),
            (2, 3, 4, 5),
            (2, 6, 4, 4),
            r"teacher: got images and places \(2, 4, 4\), want the student's \(2, 4, 5\)",
        ),
        (RKDLoss(), (4, 3), (5, 3), "teacher: got 5 samples, want the student's 4"),
        (RKDLoss(), (4, 3), (4, 3, 1), r"teacher: got shape \(4, 3, 1\), want 2 dimensions"),
    ],
)
def test_bad_shapes_are_named(loss, student, teacher, message):
    with pytest.raises(ValueError, match=message):
        loss(torch.zeros(student), torch.zeros(teacher))


@pytest.mark.parametrize("loss", [*MAPS.values(), RKDLoss()])
def test_integers_are_refused(loss):
    with pytest.raises(ValueError, match=r"student: got dtype torch.int64, want floating point"):
        loss(torch.ones(4, 3, dtype=torch.int64), torch.ones(4, 3))


@pytest.mark.parametrize("loss", [CWDLoss, AttentiveMimicLoss, CIRKDLoss])
def test_temperature_must_be_positive(loss):
    with pytest.raises(ValueError, match="tau: got 0, want a number above 0"):
        loss(0)


def test_attention_weighs_places_and_channels_where_the_teacher_is_strong():
    teacher = torch.zeros(1, 2, 4, 4)
    teacher[0, 1, 2, 3] = 8.0
    strong, weak = teacher.clone(), teacher.clone()
    strong[0, 1, 2, 3] += 1
    weak[0, 0, 0, 0] += 1
    loss = AttentiveMimicLoss()
    assert loss(strong, teacher) > 100 * loss(weak, teacher)
    flat = torch.ones(1, 2, 4, 4)  # attends everywhere alike: plain mimic
    assert torch.allclose(loss(strong, flat), MimicLoss()(strong, flat))


def test_sync_without_a_process_group_is_the_local_loss():
    student, teacher = pair((5, 3))
    assert RKDLoss(sync=True)(student, teacher) == RKDLoss()(student, teacher)


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_cirkd_of_other_channels_and_temperatures(tau):
    student, teacher = pair((2, 3, 3, 2), (2, 5, 3, 2))
    wanted = reference.cirkd(student, teacher, tau)
    assert CIRKDLoss(tau)(student, teacher).item() == pytest.approx(wanted, rel=1e-9)


def test_cirkd_does_not_see_rotation_and_scale_of_the_pixels():
    student, teacher = pair((2, 3, 4, 5))
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    scale = torch.rand(2, 1, 4, 5, dtype=torch.float64) + 0.5
    moved = scale * torch.einsum("ij,njhw->nihw", rotation, student)
    assert torch.allclose(CIRKDLoss()(moved, teacher), CIRKDLoss()(student, teacher))


def test_cirkd_averages_the_places_of_large_maps():
    student, teacher = pair((2, 3, 6, 5))
    small = [torch.nn.functional.avg_pool2d(x, 2, ceil_mode=True) for x in (student, teacher)]
    wanted = CIRKDLoss()(*small)
    assert torch.equal(CIRKDLoss(places=9)(student, teacher), wanted)  # of 3 x 3
    assert torch.equal(CIRKDLoss(places=10)(student, teacher), wanted)
    assert not torch.allclose(CIRKDLoss(places=30)(student, teacher), wanted)
    assert CIRKDLoss(places=1)(student, teacher) == 0  # one place resembles the other, and there is no third
    with pytest.raises(ValueError, match="places: got 0, want a number above 0"):
        CIRKDLoss(places=0)
