"""The losses on a GPU: DIST's kernels against float64, what memory they take, and that nobody waits for them."""

import pytest
import torch

from densedist.common.losses import CWDLoss, DISTLoss, KDLoss, MimicLoss, PKDLoss, RKDLoss
from densedist.common.losses.dist import closed_form
from helpers.gpu import DEVICE, MARKS, NEEDS_CUDA, needs_memory

pytestmark = MARKS
LARGE = (16, 19, 1024, 2048)
SHAPES = [(7, 5), (1024, 81), (1024, 1204), (192_000, 80), (2, 150, 128, 128), (4, 19, 512, 1024), LARGE]
LAYOUTS = {
    "as it is": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "strided": lambda x: torch.stack([x, x], -1)[..., 0],
}


def pair(shape, dtype=torch.float32, layout="as it is"):
    """Logits of student and teacher, which agree in part."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    student, other = (3 * torch.randn(shape, generator=generator, device=DEVICE) for _ in range(2))
    teacher = (0.6 * student + 0.8 * other).to(dtype)
    return LAYOUTS[layout](student.to(dtype)), LAYOUTS[layout](teacher)


def mask(shape):
    return torch.rand(shape[0], *shape[2:], device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(1)) < 0.7


def value_and_gradient(loss, student, teacher, valid=None, times=1.0):
    student = student.detach().requires_grad_()
    value = loss(student, teacher, valid)
    return value.detach(), torch.autograd.grad(value * times, student)[0]


def compare(student, teacher, valid=None, **options):
    """Beside the implementation for float64, which tests on the CPU compare with the plain formula."""
    loss = DISTLoss(**options)
    wanted, wanted_gradient = value_and_gradient(loss, student.double(), teacher.double(), valid)
    times = 1 / float(wanted_gradient.abs().max())  # float16 has no small numbers
    seen, gradient = value_and_gradient(loss, student, teacher, valid, times)
    torch.testing.assert_close(seen.double(), wanted, rtol=2e-7, atol=1e-7)
    assert gradient.dtype == student.dtype
    apart = wanted_gradient.mul_(times).sub_(gradient).abs_().max()
    # With 150 classes float32 was 1.1e-6 away on a CPU. Of half precision the gradient's own rounding.
    assert apart < (2e-6 if student.dtype == torch.float32 else torch.finfo(student.dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("masked", [False, True], ids=["all count", "some count"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dist_of_any_size(shape, masked, activation, dtype):
    needs_memory(9 * 8 * torch.Size(shape).numel())
    compare(*pair(shape, dtype), mask(shape) if masked else None, activation=activation, tau=2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "as it is"])
@pytest.mark.parametrize("shape", [(2, 19, 129, 255), (2, 150, 64, 64), (4, 19, 512, 1024)], ids=str)
def test_dist_in_any_order_of_memory(shape, layout, dtype):
    compare(*pair(shape, dtype, layout), mask(shape))


@pytest.mark.parametrize("layout", ["as it is", "channels_last"])
def test_dist_with_a_rare_class_where_the_logits_begin(layout):
    student, teacher = pair((4, 19, 512, 1024), layout=layout)
    for x in (student, teacher):
        x[:, 4] -= 12
        x[0, 4, 0, :100] += 14
    compare(student, teacher)


@pytest.mark.parametrize("layout", ["as it is", "channels_last"])
def test_gradient_has_the_students_order_in_memory(layout):
    student, teacher = pair((2, 19, 64, 64), layout=layout)
    assert value_and_gradient(DISTLoss(), student, teacher)[1].stride() == student.stride()


def test_dist_where_no_row_counts():
    student, teacher = pair((2, 19, 64, 64))
    value, gradient = value_and_gradient(DISTLoss(), student, teacher, torch.zeros_like(mask(student.shape)))
    assert value == gradient.abs().sum() == 0


def test_dist_is_the_same_again():
    first, second = (value_and_gradient(DISTLoss(), *pair((4, 19, 512, 1024))) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@NEEDS_CUDA
def test_triton_has_them():
    passes = closed_form._passes(torch.zeros(7, 5, device=DEVICE))
    assert passes.__name__.endswith("triton_backend")


@NEEDS_CUDA
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["as it is", "channels_last"])
def test_dist_takes_the_memory_of_its_gradient(layout, dtype):
    student, teacher = pair((4, 19, 512, 1024), dtype, layout)
    value_and_gradient(DISTLoss(), student, teacher)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    value_and_gradient(DISTLoss(), student, teacher)
    extra = torch.cuda.max_memory_allocated() - before
    assert extra < 1.1 * student.numel() * student.element_size()


@NEEDS_CUDA
@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (DISTLoss(), (2, 19, 64, 64)),
        (DISTLoss(activation="sigmoid"), (1024, 80)),
        (KDLoss(), (1024, 81)),
        (CWDLoss(), (2, 19, 64, 64)),
        (MimicLoss(), (2, 16, 32, 32)),
        (PKDLoss(), (2, 16, 32, 32)),
        (RKDLoss(), (8, 64)),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, torch.nn.Module) else "",
)
def test_nobody_waits_for_a_loss(loss, shape):
    student, teacher = pair(shape)
    student.requires_grad_()
    loss(student, teacher).backward()  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss(student, teacher).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
