"""DIST's three implementations and RKD's Gram matrix against the plain formulas in float64, also where it is tight."""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations

import pytest
import torch

from benchmarks import formulas
from densedist.common.losses import DISTLoss, RKDLoss, rkd
from densedist.common.losses.dist import blocks, closed_form
from densedist.common.losses.dist.terms import Relation
from helpers import reference
from helpers.tensors import logits_of_both as pair
from helpers.tensors import mask

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NEEDS_NUMBA = pytest.mark.skipif(not find_spec("numba"), reason="needs Numba")
# The kernels without a GPU: see test_kernels_in_tritons_interpreter.
IMPLEMENTATIONS = [
    "blocks",
    "small_blocks",
    pytest.param("numba", marks=NEEDS_NUMBA),
    pytest.param("small_numba", marks=NEEDS_NUMBA),
    *(["triton"] if INTERPRETED else []),
]


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request, monkeypatch):
    if request.param == "small_blocks":  # several, the last ones smaller
        monkeypatch.setattr(blocks, "UNDIVIDED", 0)
        monkeypatch.setattr(blocks, "BLOCK", {"cpu": 256})
    kernels = request.param.removeprefix("small_")
    passes = blocks if kernels == "blocks" else import_module(f"densedist.common.losses.dist.{kernels}_backend")
    if request.param == "small_numba":
        monkeypatch.setattr(passes, "CHUNK", 256)
    monkeypatch.setattr(closed_form, "_passes", lambda logits: passes)


@pytest.mark.slow  # a minute: the interpreter goes through the kernels number by number
@pytest.mark.skipif(INTERPRETED or not find_spec("triton"), reason="needs Triton, once")
def test_kernels_in_tritons_interpreter():
    """It must be chosen before Triton is imported: these tests again, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-k", "triton"]
    run = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def exact(student, teacher, valid=None, tau=1.0, activation="softmax"):
    """The loss and its gradient by the plain formula in float64."""
    student = student.detach().double().requires_grad_()
    rows = [x.movedim(1, -1).reshape(-1, x.shape[1]) for x in (student, teacher.double())]
    if valid is not None:
        rows = [x[valid.reshape(-1)] for x in rows]
    loss = tau**2 * formulas.dist(rows[0] / tau, rows[1] / tau, activation)
    return loss, torch.autograd.grad(loss, student)[0]


def compare(student, teacher, valid=None, tau=1.0, activation="softmax", rounding=1e-6):
    """Ours within two roundings of the formula, the gradient within 1e-6 of its largest value."""
    wanted, wanted_gradient = exact(student, teacher, valid, tau, activation)
    student = student.detach().requires_grad_()
    loss = DISTLoss(tau=tau, activation=activation)(student, teacher, valid)
    loss.backward()
    assert student.grad.dtype == student.dtype
    torch.testing.assert_close(loss.double(), wanted, rtol=2e-7, atol=1e-7)
    scale = max(float(wanted_gradient.abs().max()), 1e-6)
    torch.testing.assert_close(student.grad / scale, (wanted_gradient / scale).to(student.dtype), rtol=0, atol=rounding)


@pytest.mark.parametrize("shape", [(7, 5), (131, 19), (2, 6, 3), (3, 19, 13, 7), (12, 5, 2, 3)])
def test_formula_of_the_benchmark_equals_the_loops(shape):
    student, teacher = pair(shape)
    for activation in ("softmax", "sigmoid"):
        wanted = reference.dist(student, teacher, activation=activation)
        assert float(formulas.dist(student, teacher, activation)) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.skipif(not INTERPRETED, reason="needs Triton's interpreter: see above")
def test_triton_counts_with_64_bits_where_an_image_is_that_large(monkeypatch):
    kernels = import_module("densedist.common.losses.dist.triton_backend")
    monkeypatch.setattr(kernels, "_extent", lambda logits: 2**31)
    monkeypatch.setattr(closed_form, "_passes", lambda logits: kernels)
    compare(*pair((3, 19, 13, 7), torch.float32), mask((3, 19, 13, 7)))


@pytest.mark.skipif(not INTERPRETED, reason="needs Triton's interpreter: see above")
@pytest.mark.parametrize("rows", [[1], [4499], [70, 71, 3000]])
def test_triton_takes_the_shift_of_rows_that_count_wherever_they_are(rows, monkeypatch):
    """One in 71 is looked at first, then 64 after each of them, and so on."""
    kernels = import_module("densedist.common.losses.dist.triton_backend")
    monkeypatch.setattr(closed_form, "_passes", lambda logits: kernels)
    shape = (4500, 5)
    valid = torch.zeros(shape[0], dtype=torch.bool)
    valid[rows] = True
    student, teacher = pair(shape, torch.float32)
    launch = kernels._Launch(student, teacher, valid, Relation(1.0, 1.0, 1.0, "softmax", 1e-8))
    shift = torch.empty(2, shape[1])
    launch.one(import_module("densedist.common.losses.dist.triton_kernels").shift, shift)
    known = torch.stack([student[rows].softmax(1), teacher[rows].softmax(1)]).unbind(1)
    near = [torch.stack(seen).mean(0) for n in (1, 2, 3) for seen in combinations(known, n)]
    assert any(torch.allclose(shift, mean, rtol=0, atol=1e-6) for mean in near)
    compare(student, teacher, valid)


@pytest.mark.usefixtures("implementation")
def test_constant_columns():
    """Of sigmoids; with the softmax the others' sum moves every column."""
    student, teacher = pair((131, 19), torch.float32)
    student[:, 2] = teacher[:, 2] = -4.6
    compare(student, teacher, activation="sigmoid")


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_rare_class_where_the_logits_begin(activation, layout):
    """The shift is not the mean of what comes first: float32 would lose the small variance of the rare class."""
    student, teacher = pair((2, 5, 128, 64), torch.float32)
    for x in (student, teacher):
        x[:, 4] -= 12
        x[0, 4, 0, :3] += 14
    valid = torch.ones(2, 128, 64, dtype=torch.bool)
    valid[0, 0, 3:] = valid[0, 1:4] = False
    compare(student.contiguous(memory_format=layout), teacher, valid, activation=activation)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
class TestDIST:
    @pytest.mark.parametrize(("masked", "tau"), [(False, 1.0), (True, 4.0)])
    @pytest.mark.parametrize(
        "shape", [(7, 5), (131, 19), (60, 81), (150, 1000), (2, 6, 3), (3, 19, 13, 7), (12, 5, 2, 3)]
    )
    def test_odd_shapes(self, shape, masked, tau, activation):
        compare(*pair(shape, torch.float32), mask(shape) if masked else None, tau, activation)

    @pytest.mark.parametrize("shape", [(1, 5), (9, 1), (1, 1), (1, 5, 1, 1), (2, 1, 3, 3)])
    def test_one_row_or_one_class(self, shape, activation):
        if shape[1] == 1 and activation == "softmax":  # which is 1 whatever the logits are
            with pytest.raises(ValueError, match="got one column"):
                compare(*pair(shape, torch.float32), activation=activation)
            return
        compare(*pair(shape, torch.float32), activation=activation)

    @pytest.mark.parametrize("first", [0, 1, 2])
    def test_every_third_row_counts(self, first, activation):
        """Those from which the shift is taken may be others."""
        student, teacher = pair((304, 19), torch.float32)
        student[:, 2] = teacher[:, 2] = -4.6
        compare(student, teacher, torch.arange(304) % 3 == first, activation=activation)

    @pytest.mark.parametrize("shape", [(131, 19), (3, 19, 13, 7)])
    def test_rows_that_do_not_count_change_nothing(self, shape, activation):
        student, teacher = pair(shape, torch.float32)
        valid, loss = mask(shape), DISTLoss(activation=activation)
        broken, other = (
            x.masked_fill(~valid.unsqueeze(1), float(bad)) for x, bad in ((student, "nan"), (teacher, "inf"))
        )
        seen = loss(broken.requires_grad_(), other, valid)
        wanted = loss(student.requires_grad_(), teacher, valid)
        assert torch.equal(seen, wanted)
        assert torch.equal(torch.autograd.grad(seen, broken)[0], torch.autograd.grad(wanted, student)[0])

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    @pytest.mark.parametrize("side", [0, 1])
    def test_nan_or_infinity_gives_a_loss_that_is_not_finite(self, side, bad, activation):
        if activation == "sigmoid" and bad == float("inf"):
            return  # a probability of 1
        sides = pair((300, 19), torch.float32)
        sides[side][299, 7] = bad
        assert not DISTLoss(activation=activation)(*sides).isfinite()

    def test_no_row_counts(self, activation):
        student, teacher = pair((131, 19), torch.float32)
        loss = DISTLoss(activation=activation)(student.requires_grad_(), teacher, torch.zeros(131, dtype=torch.bool))
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss == gradient.abs().sum() == 0

    @pytest.mark.parametrize("both", [False, True])
    def test_constant_rows(self, both, activation):
        student, teacher = pair((131, 19), torch.float32)
        student[::3] = 0.7
        if both:
            teacher[::3] = -1.3
        compare(student, teacher, activation=activation)

    def test_extreme_logits(self, activation):
        student, teacher = (torch.where(x > 0, 80.0, -80.0) for x in pair((131, 19), torch.float32))
        student[::2] /= 40
        compare(student, teacher, activation=activation)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision(self, dtype, activation):
        rounding = torch.finfo(dtype).eps  # of the gradient, which has the student's dtype
        student, teacher = pair((3, 19, 13, 7), dtype)
        compare(student, teacher, activation=activation, rounding=rounding)
        compare(student.mT, teacher.mT, mask(student.mT.shape), activation=activation, rounding=rounding)

    @pytest.mark.parametrize(
        "layout",
        [
            lambda x: x.to(memory_format=torch.channels_last),
            lambda x: x.mT.contiguous().mT,
            lambda x: torch.stack([x, x], -1)[..., 0],
            lambda x: x[:, :, :1].expand(-1, -1, 13, -1),
        ],
        ids=["channels_last", "transposed", "strided", "expanded"],
    )
    def test_order_in_memory(self, layout, activation):
        student, teacher = pair((2, 19, 13, 7), torch.float32)
        compare(layout(student), teacher, mask(student.shape), activation=activation)
        compare(student, layout(teacher), activation=activation)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_gradient_has_the_students_order_in_memory(self, dtype, activation):
        for student in (torch.randn(131, 19), torch.randn(2, 19, 13, 7).to(memory_format=torch.channels_last)):
            student = student.to(dtype).requires_grad_()
            loss = DISTLoss(activation=activation)(student, student.detach() + 1)
            assert torch.autograd.grad(loss, student)[0].stride() == student.stride()

    def test_gradient_may_be_asked_for_twice(self, activation):
        student, teacher = pair((131, 19), torch.float32)
        loss = DISTLoss(activation=activation)(student.requires_grad_(), teacher)
        first, second = (torch.autograd.grad(loss, student, retain_graph=True)[0] for _ in range(2))
        assert torch.equal(first, second)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("block", [4096, 1 << 30], ids=["blocks", "one block"])
@pytest.mark.parametrize("kernels", ["blocks", pytest.param("numba_backend", marks=NEEDS_NUMBA)])
def test_number_of_threads_changes_no_bit(kernels, block, activation, monkeypatch):
    """Nor does it matter that the caller infers, or which thread takes which block."""
    passes = import_module(f"densedist.common.losses.dist.{kernels}")
    monkeypatch.setattr(closed_form, "_passes", lambda logits: passes)
    monkeypatch.setattr(blocks, "UNDIVIDED", 0)
    monkeypatch.setattr(blocks, "BLOCK", {"cpu": block})
    if passes is not blocks:
        monkeypatch.setattr(passes, "CHUNK", block)
    student, teacher = pair((3, 19, 47, 31), torch.float32)  # so many that PyTorch would share out an operation
    student.requires_grad_()
    loss, valid, before = DISTLoss(activation=activation), mask(student.shape), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            value = loss(student, teacher, valid)
            (gradient,) = torch.autograd.grad(value, student)
            with torch.inference_mode():
                found.append((value.item(), loss(student + 0, teacher + 0, valid).item(), gradient))
    finally:
        torch.set_num_threads(before)
    assert {(value, inferred) for value, inferred, _ in found} == {(found[0][0], found[0][0])}
    assert all(torch.equal(gradient, found[0][2]) for *_, gradient in found)


@pytest.fixture
def chosen():
    """Which implementation is chosen, anew before and after."""
    closed_form._kernels.cache_clear()
    yield lambda logits: closed_form._passes(logits).__name__.rpartition(".")[2]
    closed_form._kernels.cache_clear()


@NEEDS_NUMBA
def test_numba_is_chosen_on_the_cpu(chosen):
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert chosen(torch.zeros(7, 5, dtype=dtype)) == "numba_backend"
    assert chosen(torch.zeros(7, 5, dtype=torch.float64)) == "blocks"
    assert chosen(torch.zeros(7, 5000)) == "blocks"


def test_blocks_without_numba(chosen, monkeypatch):
    monkeypatch.setattr(closed_form, "find_spec", lambda name: None)
    assert chosen(torch.zeros(7, 5)) == "blocks"
    compare(*pair((131, 19), torch.float32))


@NEEDS_NUMBA
def test_blocks_where_numba_cannot_be_imported(chosen, monkeypatch):
    import_module("densedist.common.losses.dist.numba_backend")
    for module in ("numba_backend", "numba_kernels"):
        monkeypatch.delitem(sys.modules, f"densedist.common.losses.dist.{module}")
        monkeypatch.delattr(f"densedist.common.losses.dist.{module}")
    monkeypatch.setattr(closed_form, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert chosen(torch.zeros(7, 5)) == "blocks"


@NEEDS_NUMBA
def test_kernels_without_a_folder_to_keep_them_in(monkeypatch):
    numba, tiles = import_module("numba"), import_module("densedist.common.losses.dist.numba_kernels")

    def njit(cache=False, **_):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(numba, "njit", njit)
    assert tiles.jit(tiles.EXACT)(compare) is compare


@pytest.mark.parametrize("undivided", [0, 1 << 20])
def test_operations_on_blocks_are_not_shared_out(undivided, monkeypatch):
    seen, relate, before = [], blocks._relate, torch.get_num_threads()
    monkeypatch.setattr(closed_form, "_passes", lambda logits: blocks)
    monkeypatch.setattr(blocks, "UNDIVIDED", undivided)
    monkeypatch.setattr(blocks, "BLOCK", {"cpu": 256})
    monkeypatch.setattr(blocks, "_relate", lambda *_: seen.append(torch.get_num_threads()) or relate(*_))
    torch.set_num_threads(2)
    try:
        student, teacher = pair((131, 19))
        DISTLoss()(student.requires_grad_(), teacher).backward()
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_few_numbers_are_not_shared_out(monkeypatch):
    """What the loss needs of a square root of 19 numbers MKL would do in all threads."""
    seen, finish, before = [], blocks.finish, torch.get_num_threads()
    monkeypatch.setattr(blocks, "finish", lambda *_: seen.append(torch.get_num_threads()) or finish(*_))
    torch.set_num_threads(2)
    try:
        DISTLoss()(*pair((7, 5)))
        assert [*seen, torch.get_num_threads()] == [1, 2]
    finally:
        torch.set_num_threads(before)


def test_synced_dist_sends_sums_by_class_and_the_upstream_gradient_only(monkeypatch):
    sent = []

    def send(x):
        sent.append(x.numel())
        return x

    monkeypatch.setattr("densedist.common.losses.dist.terms.sum_over_processes", send)
    monkeypatch.setattr("densedist.common.losses.dist.closed_form.sum_over_processes", send)
    student, teacher = pair((3, 19, 13, 7))
    DISTLoss(sync=True)(student.requires_grad_(), teacher).backward()
    assert sent == [2 + 2 * 19, 3 * 19, 1]


def test_dist_has_no_second_derivative():
    student, teacher = pair((7, 5))
    loss = DISTLoss()(student.requires_grad_(), teacher)
    (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


@pytest.mark.parametrize("samples", [3, 17, 64])
def test_rkd_stays_within_1e_6_of_the_formula(samples, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(samples, 40, generator=generator) for _ in range(2))
    wide = student.double().requires_grad_()
    wanted = formulas.rkd(wide, teacher.double())
    (wanted_gradient,) = torch.autograd.grad(wanted, wide)
    for group in (1, 1 << 17):  # one vertex at a time, or all
        monkeypatch.setattr(rkd, "GROUP", {"cpu": group})
        loss = RKDLoss()(student.requires_grad_(), teacher)
        (gradient,) = torch.autograd.grad(loss, student)
        torch.testing.assert_close(loss.double(), wanted, rtol=1e-6, atol=0)
        scale = wanted_gradient.abs().max()
        torch.testing.assert_close(gradient.double() / scale, wanted_gradient / scale, rtol=0, atol=1e-6)


def test_rkd_of_samples_far_from_the_origin_keeps_its_digits():
    student, teacher = (x + 1000 for x in pair((9, 6)))
    loss = RKDLoss(normalize=False)
    assert float(loss(student, teacher)) == pytest.approx(float(loss(student - 1000, teacher - 1000)), rel=1e-9)
