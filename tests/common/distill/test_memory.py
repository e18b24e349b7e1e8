"""RKD.MEMORY and RKD.LEVELS: which samples are related."""

import copy

import pytest
import torch

from densedist.common.distill.memory import Memory
from densedist.common.distill.taps import Tap
from densedist.common.errors import UserError
from densedist.common.losses import RKDLoss
from helpers.distillers import build

RKD = ["DISTILL.RKD.WEIGHT", 1.0, "DISTILL.RKD.DISTANCE", 25.0, "DISTILL.RKD.ANGLE", 50.0]


def batches(count, rows=4):
    """Taps of two levels, with the student's tensors."""
    torch.manual_seed(0)
    found = []
    for _ in range(count):
        student = [torch.randn(rows, channels, dtype=torch.float64, requires_grad=True) for channels in (4, 6)]
        teacher = [torch.randn(rows, 8, dtype=torch.float64) for _ in range(2)]
        found.append(Tap(student, teacher))
    return found


def test_a_batch_is_related_to_the_last_samples_before_it_without_their_gradient():
    distiller, loss = build(*RKD, "DISTILL.RKD.MEMORY", 6), RKDLoss()
    taps = batches(3)
    found = [distiller({"images": tap})["loss_rkd"] for tap in taps]
    past = [
        [torch.cat([side[level].detach() for side in sides])[:6] for level in range(2)]
        for sides in ([taps[1].student, taps[0].student], [taps[1].teacher, taps[0].teacher])
    ]
    third = taps[2]
    wanted = sum(
        loss(torch.cat([third.student[level], past[0][level]]), torch.cat([third.teacher[level], past[1][level]]))
        for level in range(2)
    )
    torch.testing.assert_close(found[2], wanted)
    got, explicit = (torch.autograd.grad(x, third.student) for x in (found[2], wanted))
    torch.testing.assert_close(got, explicit)
    assert torch.autograd.grad(found[0], taps[0].student)
    none = build(*RKD)({"images": taps[0]})["loss_rkd"]
    assert torch.equal(found[0], none)


def test_it_goes_on_from_a_checkpoint_bit_for_bit():
    taps = batches(4)
    one, two = (build(*RKD, "DISTILL.RKD.MEMORY", 5) for _ in range(2))
    for tap in taps[:3]:
        one({"images": tap})
    assert list(one.beside) == ["memories"]
    two.memories.load_state_dict(copy.deepcopy(one.memories.state_dict()))
    assert torch.equal(*(d({"images": taps[3]})["loss_rkd"] for d in (one, two)))
    assert build(*RKD).beside == {}


def test_no_more_than_its_size_is_kept():
    memory = Memory(3)
    for number in range(5):
        joined, _ = memory.joined(0, torch.full((2, 1), float(number)), torch.zeros(2, 1))
    assert joined.flatten().tolist() == [4, 4, 3, 3, 2]


def test_levels_are_chosen_by_number():
    (tap,) = batches(1)
    distiller = build(*RKD, "DISTILL.RKD.LEVELS", [1])
    torch.testing.assert_close(distiller({"images": tap})["loss_rkd"], RKDLoss()(tap.student[1], tap.teacher[1]))
    assert str(distiller) == "task + 1.0·rkd(level 1 of images)"
    both = build(*RKD, "DISTILL.RKD.LEVELS", [1], "DISTILL.RKD.MEMORY", 64)
    assert str(both) == "task + 1.0·rkd(64 past and level 1 of images)"
    with pytest.raises(UserError) as refused:
        build(*RKD, "DISTILL.RKD.LEVELS", [2])
    assert str(refused.value) == "DISTILL.RKD.LEVELS has 2, but images of this pair has 2 level(s): want 0 to 1"
    with pytest.raises(UserError, match=r"^DISTILL\.RKD\.LEVELS is \[-1\]: want whole numbers of 0 or more$"):
        build(*RKD, "DISTILL.RKD.LEVELS", [-1])
