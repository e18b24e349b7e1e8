"""Af-DCD against float64 loops, finite differences, what must not change it, and in a distiller."""

import pytest
import torch

from densedist.common.distill.adapters import Generator
from densedist.common.distill.taps import Tap
from densedist.common.errors import UserError
from densedist.common.losses import AFDCDLoss
from helpers import reference
from helpers.distillers import build, config, maps
from helpers.tensors import features_of_both as pair

SMALL = {"contrast": 1.0, "reconstruction": 0.5, "tau": 2.0, "groups": 3, "patch": 2, "pool": 1}
KEYS = ("DISTILL.AFDCD.WEIGHT", "2.0", "DISTILL.AFDCD.GROUPS", "4")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"contrast": 0.0},
        {"reconstruction": 0.0, "groups": 2},
        {"pool": 2, "patch": 1},
        {"pool": 2, "patch": 9},
        {"patch": 3, "tau": 0.07},
    ],
)
def test_equals_float64_loops(settings, dtype):
    """5x7 places: neither squares nor patches divide them."""
    student, teacher = pair((2, 6, 5, 7), dtype=dtype)
    settings = SMALL | settings
    wanted = reference.afdcd(student, teacher, **settings)
    assert AFDCDLoss(**settings)(student, teacher).item() == pytest.approx(wanted, rel=1e-5)


def test_gradients():
    student, teacher = pair((2, 6, 4, 4))
    loss = AFDCDLoss(**SMALL)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), student.requires_grad_())


def test_the_teachers_own_features_are_the_best_and_it_gets_no_gradient():
    student, teacher = pair((2, 6, 4, 4))
    loss = AFDCDLoss(**SMALL | {"tau": 0.01})
    assert loss(teacher, teacher) < 1e-3 < loss(student, teacher)
    loss(student.requires_grad_(), teacher.requires_grad_()).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_order_of_images_patches_and_groups_does_not_matter():
    student, teacher = pair((2, 6, 4, 4))
    loss = AFDCDLoss(**SMALL)
    images = [x.flip(0) for x in (student, teacher)]
    patches = [x.roll(2, 2) for x in (student, teacher)]
    groups = [x.roll(2, 1) for x in (student, teacher)]
    for sides in (images, patches, groups):
        torch.testing.assert_close(loss(*sides), loss(student, teacher))


def test_half_precision_is_widened():
    student, teacher = pair((1, 6, 4, 4), dtype=torch.bfloat16)
    seen = AFDCDLoss(**SMALL)(student, teacher)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen, AFDCDLoss(**SMALL)(student.float(), teacher.float()))


def test_compares_what_its_generators_make():
    distiller = build(*KEYS, "DISTILL.AFDCD.MASKED", "0.0")
    assert str(distiller) == "task + 2.0·afdcd(features)"
    ours, theirs = maps([4, 6], 1), maps([8, 8], 2)
    seen = distiller({"features": Tap(ours, theirs)})["loss_afdcd"]
    generators = list(distiller.adapters["afdcd"])
    assert all(isinstance(one, Generator) and one.masked == 0 for one in generators)
    made = [one(x) for one, x in zip(generators, ours, strict=True)]
    loss = AFDCDLoss(groups=4)
    torch.testing.assert_close(seen, 2.0 * sum(loss(s, t) for s, t in zip(made, theirs, strict=True)))
    seen.backward()
    assert all(p.grad is not None for p in distiller.adapters.parameters())


def test_groups_that_do_not_divide_the_teachers_channels():
    with pytest.raises(UserError) as refused:
        build(*KEYS, "DISTILL.AFDCD.GROUPS", "3")
    assert str(refused.value) == "DISTILL.AFDCD.GROUPS is 3: want a divisor of the teacher's 8 channels"


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("TAU", "0.0", "a temperature above 0"),
        ("GROUPS", "1", "2 or more"),
        ("PATCH", "0", "1 or more"),
        ("POOL", "0", "1 or more"),
        ("MASKED", "1.0", "0 to below 1"),
        ("CONTRAST", "-1.0", "0 or more"),
    ],
)
def test_keys_out_of_range(key, value, wanted):
    with pytest.raises(UserError, match=rf"DISTILL\.AFDCD\.{key} is {value}: want {wanted}"):
        config(f"DISTILL.AFDCD.{key}", value)


def test_bad_shapes_and_arguments():
    features = torch.zeros(1, 6, 4, 4)
    with pytest.raises(ValueError, match="student: got 6 channels, want a multiple of the 4 groups"):
        AFDCDLoss(groups=4)(features, features)
    with pytest.raises(ValueError, match=r"teacher: got shape \(1, 6, 4, 5\), want the student's \(1, 6, 4, 4\)"):
        AFDCDLoss(groups=3)(features, torch.zeros(1, 6, 4, 5))
    for name, value in (("contrast", -1), ("reconstruction", -1)):
        with pytest.raises(ValueError, match=f"{name}: got -1, want 0 or more"):
            AFDCDLoss(**{name: value})
    for name in ("tau", "patch", "pool"):
        with pytest.raises(ValueError, match=f"{name}: got 0, want a number above 0"):
            AFDCDLoss(**{name: 0})
    with pytest.raises(ValueError, match="groups: got 1, want 2 or more"):
        AFDCDLoss(groups=1)
