"""The padding of smaller images in a batch does not count in a loss on maps, whatever is there."""

import pytest
import torch

from densedist.common.config import load
from densedist.common.distill.distiller import Distiller, Term
from densedist.common.distill.registry import LOSSES
from densedist.common.distill.spec import LossSpec
from densedist.common.distill.taps import Tap, TapSpec, inside_of, per_cell, per_image
from densedist.seg.config import GRAMMAR
from helpers.processes import run_processes

MAPS = [name for name, spec in LOSSES.items() if spec.padding]
SMALL = {"AFDCD": {"GROUPS": 3, "POOL": 2, "PATCH": 2}, "CIRKD": {"PLACES": 24}}  # squares of 2x2 places
EXTENTS = [(8, 12), (6, 8), (8, 5)]  # of maps of 8x12 places


def loss_of(name, sync=False):
    keys = load(GRAMMAR, "", []).DISTILL[name]
    for key, value in SMALL.get(name, {}).items():
        keys[key] = value
    return LOSSES[name].make(keys, TapSpec("maps", (6,)), sync)


def maps(count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 6, 8, 12, generator=generator, dtype=torch.float64) for _ in range(2)]


def labels(name, extents):
    if LOSSES[name].targets != "objects":
        return {}
    target = torch.zeros(len(extents), 8, 12, dtype=torch.float64)
    target[:, 1:3, 1:4] = 1 / 6
    return {"target": target}


def with_garbage(x, inside, value):
    return x.where(inside[:, None], value)


def test_every_loss_on_features_knows_of_padding():
    on_features = {n for n, s in LOSSES.items() if not s.logits and s.kinds == ("maps",)}
    assert on_features == set(MAPS)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("value", [0.0, 1e3])
def test_what_is_in_the_padding_changes_nothing_and_has_no_gradient(name, value):
    loss, (student, teacher), inside = loss_of(name), maps(), inside_of(maps()[0], EXTENTS)
    wanted = loss(student, teacher, inside, **labels(name, EXTENTS))
    other = with_garbage(student, inside, value).requires_grad_()
    got = loss(other, with_garbage(teacher, inside, -value), inside, **labels(name, EXTENTS))
    assert float(got) == float(wanted) > 0
    got.backward()
    assert other.grad.isfinite().all()
    assert other.grad.abs().amax(1)[~inside].max() == 0
    assert other.grad.abs().amax(1)[inside].max() > 0


@pytest.mark.parametrize("name", MAPS)
def test_an_image_alone_is_as_without_its_padding(name):
    height, width = 8, 10
    loss, (student, teacher) = loss_of(name), maps(1)
    known = labels(name, [(height, width)])
    cut = {key: x[:, :height, :width] for key, x in known.items()}
    wanted = loss(student[..., :height, :width], teacher[..., :height, :width], **cut)
    inside = inside_of(student, [(height, width)])
    torch.testing.assert_close(loss(student, teacher, inside, **known), wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", MAPS)
def test_where_all_is_inside_nothing_changes(name):
    loss, (student, teacher) = loss_of(name), maps()
    inside = torch.ones(3, 8, 12, dtype=torch.bool)
    known = labels(name, EXTENTS)
    torch.testing.assert_close(
        loss(student, teacher, inside, **known), loss(student, teacher, **known), rtol=1e-12, atol=0
    )
    with pytest.raises(ValueError, match=r"inside: got shape \(3, 8, 11\), want \(3, 8, 12\)"):
        loss(student, teacher, inside[..., 1:], **known)
    with pytest.raises(ValueError, match=r"inside: got dtype torch.float32, want torch.bool"):
        loss(student, teacher, inside.float(), **known)


def test_fgd_s_learned_part_does_not_see_padding():
    learned = LOSSES["FGD"].learned(load(GRAMMAR, "", []).DISTILL.FGD, 6).double()
    (student, teacher), inside = maps(), inside_of(maps()[0], EXTENTS)
    wanted = learned(student, teacher, inside)
    got = learned(with_garbage(student, inside, torch.inf), with_garbage(teacher, inside, 5.0), inside)
    assert float(got) == float(wanted)
    got.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in learned.parameters())


def test_a_loss_that_knows_nothing_of_padding_sees_the_teacher_there():
    spec = LossSpec(lambda *_: torch.nn.MSELoss(), "features")
    (student, teacher), inside = maps(), inside_of(maps()[0], EXTENTS)
    distiller = Distiller([Term("mine", "features", 1.0, torch.nn.MSELoss(), spec)])
    loss = distiller({"features": Tap([student], [teacher], [inside])})["loss_mine"]
    wanted = ((student - teacher).square() * inside[:, None]).mean()
    torch.testing.assert_close(loss, wanted)
    whole = distiller({"features": Tap([student], [teacher], [None])})["loss_mine"]
    assert torch.equal(whole, torch.nn.MSELoss()(student, teacher))


def test_means_leave_padding_out():
    features = maps()[0]
    means, cells = per_image(features, EXTENTS), per_cell(features, EXTENTS)
    for number, (height, width) in enumerate(EXTENTS):
        alone = features[number : number + 1, :, :height, :width]
        torch.testing.assert_close(means[number : number + 1], per_image(alone))
        torch.testing.assert_close(cells[16 * number : 16 * number + 16], per_cell(alone))
    whole = [(8, 12)] * 3
    assert inside_of(features, whole) is None
    assert torch.equal(per_image(features, whole), per_image(features))
    assert torch.equal(per_cell(features, whole), per_cell(features))


def in_parts(rank, count):
    """One process has padding, the other has none: they still take part in the same sums."""
    whole, inside = maps(4), inside_of(maps(4)[0], [(8, 12), (8, 12), *EXTENTS[1:]])
    for name in ("PKD", "CIRKD"):
        wanted = loss_of(name)(*whole, inside)
        own = [x[2 * rank : 2 * rank + 2] for x in whole]
        got = loss_of(name, sync=True)(*own, inside[2:] if rank else None)
        torch.testing.assert_close(got.double(), wanted.double(), rtol=1e-6, atol=0)


def test_processes_agree_where_one_has_padding():
    run_processes(2, in_parts)
