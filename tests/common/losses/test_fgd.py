"""FGD: its focal part by the formula, its global part, which is learned, and both in a distiller."""

import pytest
import torch

from densedist.common.distill.taps import Tap, TapSpec
from densedist.common.errors import UserError
from densedist.common.losses import FGDLoss
from densedist.common.losses.fgd import GlobalContext, GlobalRelationLoss
from helpers import reference
from helpers.distillers import STUDENT, TEACHER, build, maps
from helpers.tensors import features_of_both as pair

SHAPE = (3, 4, 5, 6)
WITH_BOXES = {name: side["features"].channels for name, side in (("student", STUDENT), ("teacher", TEACHER))}
WITH_BOXES = {name: {"features": TapSpec("maps", c, targets="objects")} for name, c in WITH_BOXES.items()}


def scales():
    """Of an image with two objects, one without any, and one without labels."""
    target = torch.zeros(3, 5, 6)
    target[0, 1:4, 0:3] = 1 / 9
    target[0, 3:5, 2:4] = 1 / 4
    target[2] = -1
    return target


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "settings", [{}, {"alpha": 1.0, "beta": 0.0, "gamma": 0.0}, {"alpha": 0.0, "beta": 2.0}, {"gamma": 1.0, "tau": 2.0}]
)
def test_focal_part_equals_float64_loops(settings, dtype):
    student, teacher = pair(SHAPE, dtype=dtype)
    wanted = reference.fgd(student, teacher, scales(), **settings)
    assert FGDLoss(**settings)(student, teacher, target=scales()).item() == pytest.approx(wanted, rel=1e-5)


def test_gradient_of_the_focal_part():
    student, teacher = pair(SHAPE)
    loss = FGDLoss(1.0, 0.5, 0.5)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher, target=scales()), student.requires_grad_())


def test_same_features_lose_nothing_and_the_teacher_gets_no_gradient():
    student, teacher = pair(SHAPE)
    assert FGDLoss()(student, student, target=scales()) == 0
    FGDLoss()(student.requires_grad_(), teacher.requires_grad_(), target=scales()).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_objects_count_alike_whatever_their_size():
    """The same error at every place: what an object adds is its mean."""
    teacher = torch.zeros(1, 2, 6, 6)  # attends everywhere alike
    student = teacher + 1
    added = []
    for size in (1, 4):
        target = torch.zeros(1, 6, 6)
        target[0, :size, :size] = 1 / size**2
        added.append(FGDLoss(1.0, 0.0, 0.0)(student, teacher, target=target).item())
    assert added == pytest.approx([2.0, 2.0])


def test_without_labels_only_the_attention_counts():
    student, teacher = pair(SHAPE)
    unknown = torch.full((3, 5, 6), -1.0)
    assert FGDLoss(5.0, 5.0, 0.0)(student, teacher, target=unknown) == 0
    assert FGDLoss(5.0, 5.0, 1.0)(student, teacher, target=unknown).item() == pytest.approx(
        reference.fgd(student, teacher, unknown, gamma=1.0), rel=1e-9
    )


def test_global_part_starts_as_the_squared_error_and_learns_on_both_sides():
    student, teacher = pair(SHAPE)
    torch.manual_seed(0)
    loss = GlobalRelationLoss(4, 0.5).double()
    wanted = 0.5 * (student - teacher).square().sum() / 3
    torch.testing.assert_close(loss(student, teacher), wanted)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.normal_()
    loss(student.requires_grad_(), teacher.requires_grad_()).backward()
    assert teacher.grad is None
    # The softmax over places does not see a constant.
    trained = {name: p for name, p in loss.named_parameters() if not name.endswith("attend.bias")}
    assert all(p.grad.abs().sum() > 0 for p in trained.values())
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), student)


def test_context_is_the_mean_of_the_places_by_their_weights():
    features, _ = pair((2, 3, 2, 2))
    torch.manual_seed(0)
    block = GlobalContext(3).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    for image, seen in zip(features, block(features), strict=True):
        places = image.flatten(1).T
        logits = places @ block.attend.weight.flatten()
        context = (logits.exp() / logits.exp().sum()) @ places
        inner, norm, _, outer = block.transform
        hidden = inner.weight.flatten(1) @ context + inner.bias
        hidden = (hidden - hidden.mean()) / (hidden.var(unbiased=False) + norm.eps).sqrt()
        hidden = (hidden * norm.weight.flatten() + norm.bias.flatten()).clamp(min=0)
        added = outer.weight.flatten(1) @ hidden + outer.bias
        torch.testing.assert_close(seen, image + added[:, None, None])


def test_half_precision_is_widened():
    student, teacher = pair(SHAPE, dtype=torch.bfloat16)
    loss = GlobalRelationLoss(4, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        focal, relations = FGDLoss()(student, teacher, target=scales()), loss(student, teacher)
    assert focal.dtype == relations.dtype == torch.float32
    torch.testing.assert_close(relations, loss(student.float(), teacher.float()))


def test_both_parts_are_summed_over_levels_behind_adapters():
    distiller = build("DISTILL.FGD.WEIGHT", "2.0", "DISTILL.FGD.LAMBDA", "0.5", **WITH_BOXES)
    assert str(distiller) == "task + 2.0·fgd(features)"
    assert distiller.targets == {"features"}
    ours, theirs = maps([4, 6], 1), maps([8, 8], 2)
    target = [torch.zeros(2, 5, 4), torch.full((2, 5, 4), 1 / 20)]
    seen = distiller({"features": Tap(ours, theirs, targets=lambda: target)})["loss_fgd"]
    adapted = [adapter(x) for adapter, x in zip(distiller.adapters["fgd"], ours, strict=True)]
    focal = sum(FGDLoss()(s, t, target=x) for s, t, x in zip(adapted, theirs, target, strict=True))
    learned = distiller.adapters["fgd_learned"]
    assert [part.weight for part in learned] == [0.5, 0.5]
    relations = sum(part(s, t) for part, s, t in zip(learned, adapted, theirs, strict=True))
    torch.testing.assert_close(seen, 2.0 * (focal + relations))
    seen.backward()
    assert all(p.grad is not None for p in distiller.adapters.parameters())


def test_labels_without_boxes_are_refused():
    with pytest.raises(UserError) as refused:
        build("DISTILL.FGD.WEIGHT", "1.0")
    assert str(refused.value) == (
        "DISTILL.FGD needs the boxes of labels for features, which this pair does not have: no tap of this pair will "
        "do: set DISTILL.FGD.WEIGHT to 0"
    )


def test_bad_shapes_and_settings():
    features = torch.zeros(SHAPE)
    with pytest.raises(ValueError, match=r"target: got shape \(3, 6, 5\), want \(3, 5, 6\)"):
        FGDLoss()(features, features, target=torch.zeros(3, 6, 5))
    with pytest.raises(ValueError, match=r"student: got shape \(2, 3, 4\), want 4 dimensions"):
        FGDLoss()(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), target=torch.zeros(2, 4))
    with pytest.raises(ValueError, match="gamma: got -1, want 0 or more"):
        FGDLoss(gamma=-1)
    with pytest.raises(ValueError, match="tau: got 0, want a number above 0"):
        FGDLoss(tau=0)
