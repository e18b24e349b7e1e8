"""DISTLoss and KDLoss: values, gradients, invariances, masks, precision, bad input."""

import pytest
import torch

from densedist.common.losses import DISTLoss, KDLoss
from helpers import reference
from helpers.tensors import logits_of_both as pair
from helpers.tensors import mask

SHAPES = [(7, 5), (2, 4, 3, 5)]
LOSSES = {"dist": (DISTLoss, reference.dist), "kd": (KDLoss, reference.kd)}


@pytest.fixture(params=LOSSES)
def loss_and_reference(request):
    return LOSSES[request.param]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tau", [1.0, 4.0])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_equals_float64_loops(loss_and_reference, shape, activation, tau, masked, dtype):
    loss, slow = loss_and_reference
    student, teacher = pair(shape, dtype)
    valid = mask(shape) if masked else None
    seen = loss(tau=tau, activation=activation)(student, teacher, valid)
    assert seen.shape == ()
    assert seen.item() == pytest.approx(slow(student, teacher, valid, tau=tau, activation=activation), rel=1e-6)


def test_dist_weights_scale_their_relation():
    student, teacher = pair((7, 5))
    for beta, gamma in [(1.0, 0.0), (0.0, 1.0), (2.0, 0.5)]:
        wanted = reference.dist(student, teacher, beta=beta, gamma=gamma)
        assert DISTLoss(beta=beta, gamma=gamma)(student, teacher).item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_equals_finite_differences(loss_and_reference, shape, activation, masked):
    student, teacher = pair(shape)
    valid = mask(shape) if masked else None
    loss = loss_and_reference[0](tau=2.0, activation=activation)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, valid), student.requires_grad_())


def test_no_gradient_reaches_the_teacher(loss_and_reference):
    student, teacher = (x.requires_grad_() for x in pair((7, 5)))
    loss_and_reference[0]()(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_equal_logits_give_zero(loss_and_reference):
    logits = pair((2, 4, 3, 5))[0]
    assert loss_and_reference[0]()(logits, logits).item() == pytest.approx(0, abs=1e-6)


def test_order_of_rows_and_of_classes_does_not_matter(loss_and_reference):
    student, teacher = pair((7, 5))
    rows, classes = torch.randperm(7), torch.randperm(5)
    loss = loss_and_reference[0]()
    shuffled = loss(student[rows][:, classes], teacher[rows][:, classes])
    assert shuffled.item() == pytest.approx(loss(student, teacher).item(), rel=1e-12)


def test_spatial_logits_equal_their_rows(loss_and_reference):
    student, teacher = pair((2, 4, 3, 5))
    loss = loss_and_reference[0]()
    rows = [x.movedim(1, -1).reshape(-1, 4) for x in (student, teacher)]
    assert loss(student, teacher).item() == pytest.approx(loss(*rows).item(), rel=1e-12)


def test_constant_added_to_the_logits_of_a_row_does_not_matter(loss_and_reference):
    student, teacher = pair((7, 5))
    shift = torch.randn(7, 1)
    loss = loss_and_reference[0]()
    assert loss(student + shift, teacher).item() == pytest.approx(loss(student, teacher).item(), rel=1e-9)


def test_inter_relation_ignores_a_positive_affine_change_of_the_teachers_rows():
    """With sigmoid the logits can be chosen so that the teacher's probabilities become a·p + b."""
    student, teacher = pair((7, 5))
    inter = DISTLoss(beta=1, gamma=0, activation="sigmoid")
    scale, shift = torch.rand(7, 1, dtype=torch.float64) * 0.4 + 0.1, torch.rand(7, 1, dtype=torch.float64) * 0.4 + 0.05
    changed = (scale * teacher.sigmoid() + shift).logit()
    assert inter(student, changed).item() == pytest.approx(inter(student, teacher).item(), rel=1e-6)
    flipped = (0.9 - 0.5 * teacher.sigmoid()).logit()
    assert inter(student, flipped).item() == pytest.approx(2 - inter(student, teacher).item(), rel=1e-6)


def test_intra_relation_ignores_a_positive_affine_change_of_the_teachers_columns():
    student, teacher = pair((7, 5))
    intra = DISTLoss(beta=0, gamma=1, activation="sigmoid")
    scale, shift = torch.rand(1, 5, dtype=torch.float64) * 0.4 + 0.1, torch.rand(1, 5, dtype=torch.float64) * 0.4 + 0.05
    changed = (scale * teacher.sigmoid() + shift).logit()
    assert intra(student, changed).item() == pytest.approx(intra(student, teacher).item(), rel=1e-6)


def test_rows_that_do_not_count_change_nothing_even_when_nan(loss_and_reference):
    student, teacher = pair((2, 4, 3, 5))
    valid = mask(student.shape)
    broken = student.masked_fill(~valid.unsqueeze(1), float("nan")).requires_grad_()
    loss = loss_and_reference[0]()
    seen = loss(broken, teacher, valid)
    assert seen.item() == pytest.approx(loss(student, teacher, valid).item(), rel=1e-12)
    seen.backward()
    assert broken.grad.isfinite().all()
    assert (broken.grad.movedim(1, -1)[~valid] == 0).all()


def test_no_valid_row_gives_zero_with_gradient_zero(loss_and_reference):
    student, teacher = pair((7, 5))
    loss = loss_and_reference[0]()(student.requires_grad_(), teacher, torch.zeros(7, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert (student.grad == 0).all()


@pytest.mark.parametrize("where", ["student", "teacher"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_nan_in_gives_a_non_finite_loss(loss_and_reference, where, activation):
    student, teacher = pair((7, 5))
    (student if where == "student" else teacher)[3, 2] = float("nan")
    assert not loss_and_reference[0](activation=activation)(student, teacher).isfinite()


@pytest.mark.parametrize(
    ("shape", "activation"), [((1, 5), "softmax"), ((1, 5), "sigmoid"), ((5, 1), "sigmoid"), ((1, 1), "sigmoid")]
)
def test_constant_rows_and_columns_have_finite_gradients(loss_and_reference, shape, activation):
    student, teacher = pair(shape, torch.float32)
    loss = loss_and_reference[0](activation=activation)(student.requires_grad_(), teacher)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_extreme_logits_stay_finite(loss_and_reference, activation):
    student, teacher = (40 * x.clamp(-2, 2) for x in pair((7, 5), torch.float32))
    loss = loss_and_reference[0](activation=activation)(student.requires_grad_(), teacher)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32_under_autocast(loss_and_reference, dtype):
    student, teacher = pair((64, 9), dtype)
    loss, slow = loss_and_reference
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = loss()(student, teacher)
    assert seen.dtype == torch.float32
    assert seen.item() == pytest.approx(slow(student, teacher), rel=1e-6)


def test_many_rows_stay_close_to_float64():
    student, teacher = pair((1, 19, 128, 256), torch.float32)
    exact = DISTLoss()(student.double(), teacher.double()).item()
    assert DISTLoss()(student, teacher).item() == pytest.approx(exact, rel=1e-6)


def test_strides_do_not_matter(loss_and_reference):
    student, teacher = pair((2, 4, 3, 5))
    loss = loss_and_reference[0]()
    strided = student.to(memory_format=torch.channels_last), teacher.mT.contiguous().mT
    assert loss(*strided).item() == pytest.approx(loss(student, teacher).item(), rel=1e-12)


BAD_INPUT = {
    "other shape": (lambda: (torch.zeros(7, 5), torch.zeros(7, 4)), r"teacher: got shape \(7, 4\), want .*\(7, 5\)"),
    "one dimension": (lambda: (torch.zeros(7), torch.zeros(7)), r"student: got shape \(7,\), want \(R, C\) or"),
    "integers": (
        lambda: (torch.zeros(7, 5), torch.zeros(7, 5, dtype=torch.long)),
        r"teacher: got dtype torch.int64, want floating point",
    ),
    "empty": (lambda: (torch.zeros(0, 5), torch.zeros(0, 5)), r"student: got empty shape \(0, 5\), want at least one"),
    "mask dtype": (
        lambda: (torch.zeros(7, 5), torch.zeros(7, 5), torch.ones(7)),
        r"valid: got dtype torch.float32, want torch.bool",
    ),
    "mask shape": (
        lambda: (torch.zeros(2, 5, 3, 4), torch.zeros(2, 5, 3, 4), torch.ones(2, 4, 3, dtype=torch.bool)),
        r"valid: got shape \(2, 4, 3\), want \(2, 3, 4\)",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_raises_and_says_what_is_wanted(loss_and_reference, case):
    make, message = BAD_INPUT[case]
    with pytest.raises(ValueError, match=message):
        loss_and_reference[0]()(*make())


def test_bad_settings_raise(loss_and_reference):
    loss = loss_and_reference[0]
    with pytest.raises(ValueError, match="tau: got 0, want a number above 0"):
        loss(tau=0)
    with pytest.raises(ValueError, match="activation: got 'relu', want one of softmax, sigmoid"):
        loss(activation="relu")
    with pytest.raises(ValueError, match="eps: got -1, want a number above 0"):
        DISTLoss(eps=-1)


def test_losses_have_no_parameters(loss_and_reference):
    assert not list(loss_and_reference[0]().parameters())


@pytest.mark.parametrize("loss", [DISTLoss(), KDLoss()])
def test_softmax_over_one_column_is_refused(loss):
    """It is 1 whatever the logits are: a loss that is constant."""
    with pytest.raises(ValueError, match=r"student: got one column, \(5, 1\), want two or more for a softmax"):
        loss(torch.rand(5, 1), torch.rand(5, 1))
    for alike in (DISTLoss(beta=0.0, activation="sigmoid"), KDLoss(activation="sigmoid")):
        student = torch.rand(5, 1, requires_grad=True)
        alike(student, torch.rand(5, 1)).backward()
        assert student.grad.abs().max() > 0
