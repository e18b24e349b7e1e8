"""The teacher's precision is its own."""

import pytest
import torch
from torch import nn

from densedist.common.distill.teacher import Teacher, precision
from helpers.tiny import defaults


def named(name, device="cpu"):
    cfg = defaults()
    cfg.MODEL.DEVICE, cfg.DISTILL.TEACHER.PRECISION = device, name
    return precision(cfg)


def test_auto_is_half_on_a_gpu_only():
    assert named("auto") is torch.float32
    assert named("auto", "cuda:1") is torch.float16
    assert named("float32", "cuda") is torch.float32
    assert named("bfloat16") is torch.bfloat16


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("mean", torch.tensor([103.53]))


@pytest.mark.parametrize("own", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("students", [None, torch.bfloat16])
def test_neither_sees_the_others_precision(own, students):
    teacher, student, x = Teacher(Model(), precision=own), nn.Linear(3, 3), torch.ones(1, 3)
    with torch.autocast("cpu", students, enabled=students is not None):
        with teacher.alone():
            taught = teacher.model.layer(x.to(own))
        learned = student(x)
    assert taught.dtype == own
    assert not taught.requires_grad
    assert learned.dtype == (students or torch.float32)
    assert learned.requires_grad


def test_pixels_are_normalized_in_float32():
    model = Teacher(Model(), precision=torch.float16).model
    assert model.mean.dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float16}
