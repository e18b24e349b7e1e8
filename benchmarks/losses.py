"""DIST and RKD, forward and backward, beside the published formulas in eager PyTorch."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import formulas
from densedist.common.losses import DISTLoss, RKDLoss
from densedist.common.profile import busy_core, extra_bytes, medians, report

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A loss on input of a shape, and the formula that it stands for."""

    name: str
    shape: tuple[int, ...]
    ours: Loss
    formula: Loss
    dtype: torch.dtype = torch.float32
    busy: int = 0  # other processes that use a core each meanwhile
    channels_last: bool = False


@dataclass(frozen=True)
class Result:
    """Of ours and of the formula: seconds, bytes over the student's, distances to the formula in float64.

    The loss's distance is relative; the gradient's is the largest of its values over the largest gradient.
    copy_seconds is the time of one copy of the student's input: what DIST must read and write, both inputs
    twice and the gradient once, takes 2.5 of them.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    seconds: dict[str, float]
    memory: dict[str, float]
    loss_error: dict[str, float]
    gradient_error: dict[str, float]
    copy_seconds: float


SOFTMAX = (DISTLoss(), formulas.dist)
SIGMOID = (DISTLoss(activation="sigmoid"), partial(formulas.dist, activation="sigmoid"))
CASES = (
    Case("DIST, 4 Cityscapes crops", (4, 19, 512, 1024), *SOFTMAX),
    Case("DIST, anchors of 2 images", (192_000, 80), *SIGMOID),
    Case("DIST, RoIs of 2 images", (1024, 81), *SOFTMAX),
    Case("RKD", (256, 1024), RKDLoss(), formulas.rkd),
)
# On the CPU, where threads that wait for each other wait for those processes as well.
BUSY_CASES = tuple(replace(case, name=f"{case.name}, {busy} busy", busy=busy) for busy in (1, 2) for case in CASES[:3])
# What a GPU has room for, in half precision as autocast gives it, and in the order of memory of seg's networks.
CROPS = Case("DIST, 4 Cityscapes crops, channels_last", (4, 19, 512, 1024), *SOFTMAX, channels_last=True)
GPU_CASES = (
    replace(CASES[0], dtype=torch.bfloat16),
    CROPS,
    replace(CROPS, dtype=torch.bfloat16),
    Case("DIST, 4 ADE20K crops, channels_last", (4, 150, 512, 512), *SOFTMAX, torch.bfloat16, channels_last=True),
)


def main(device: torch.device, file: Path | None) -> None:
    """Measure; print a table, write everything to file as JSON."""
    cases = CASES + (GPU_CASES if device.type == "cuda" else BUSY_CASES)
    results = [measure(case, device) for case in cases]
    title = "Losses, forward and backward: ours / published formula in eager mode"
    report(title, table(results), [asdict(result) for result in results], device, file)


def measure(case: Case, device: torch.device) -> Result:
    """One case, both ways, on the same random input."""
    generator = torch.Generator().manual_seed(0)
    order = torch.channels_last if case.channels_last else torch.contiguous_format
    student, teacher = (
        (3 * torch.randn(case.shape, generator=generator)).to(device, case.dtype).contiguous(memory_format=order)
        for _ in ("student", "teacher")
    )
    student.requires_grad_()
    losses = {"ours": case.ours, "formula": case.formula}
    steps = {name: partial(_forward_and_backward, loss, student, teacher) for name, loss in losses.items()}
    size = student.numel() * student.element_size()
    wide = student.detach().double().requires_grad_()
    exact, exact_gradient = _forward_and_backward(case.formula, wide, teacher.double())
    loss_error, gradient_error = {}, {}
    for name, step in steps.items():
        loss, gradient = step()
        loss_error[name] = float((loss.double() - exact).abs() / exact.abs())
        gradient_error[name] = float((gradient - exact_gradient).abs().max() / exact_gradient.abs().max())
    del wide, exact_gradient, gradient
    copy = torch.empty_like(student)
    with ExitStack() as others:
        for _ in range(case.busy):
            others.enter_context(busy_core())
        seconds = medians({**steps, "copy": lambda: copy.copy_(student.detach())}, device)
    copy_seconds = seconds.pop("copy")
    memory = {name: extra_bytes(step, device) / size for name, step in steps.items()}
    dtype = str(case.dtype).removeprefix("torch.")
    return Result(case.name, case.shape, dtype, seconds, memory, loss_error, gradient_error, copy_seconds)


def _forward_and_backward(loss: Loss, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    value = loss(student, teacher)
    return value.detach(), torch.autograd.grad(value, student)[0]


def table(results: list[Result]) -> list[dict[str, str]]:
    """One line a case: times, their ratio, memory, errors."""
    return [
        {
            "loss": f"{r.name} {r.shape}, {r.dtype}",
            "ms": _both({name: 1e3 * s for name, s in r.seconds.items()}, ".3g"),
            "ratio": f"{r.seconds['formula'] / r.seconds['ours']:.1f}",
            "in copies of the input": _both({name: s / r.copy_seconds for name, s in r.seconds.items()}, ".1f"),
            "extra memory / input's": _both(r.memory, ".2f"),
            "error of the loss": _both(r.loss_error, ".0e"),
            "of the gradient": _both(r.gradient_error, ".0e"),
        }
        for r in results
    ]


def _both(values: dict[str, float], form: str) -> str:
    return f"{values['ours']:{form}} / {values['formula']:{form}}"
