"""Which losses are built from a config, on which taps, with which adapters, and how strongly they count."""

import math
from dataclasses import replace

import pytest
import torch
from detectron2.utils.events import EventStorage

from densedist.common.config import load
from densedist.common.distill.distiller import Distiller, LossWeightSchedule, Term, TrainingOnly, merge_losses
from densedist.common.distill.registry import LOSSES, LossSpec, is_on
from densedist.common.distill.taps import Tap, TapSpec
from densedist.common.errors import UserError
from densedist.common.losses import CWDLoss, DISTLoss, KDLoss, MimicLoss, PKDLoss, RKDLoss
from densedist.det.config import GRAMMAR
from helpers.distillers import LOGITS, STUDENT, TEACHER, build, config, maps

KNOWN = set(LOSSES)
LABELED = replace(LOGITS, targets="classes")
SOME_LABELS = ["DATASETS.TRAIN", "('digits_train',)"]
AUXILIARY = {"aux_logits": TapSpec("rows", (4,), "softmax", "cls_logits", 0.4)}


def test_any_set_of_losses_together_in_the_order_of_the_plan():
    weights = [word for loss in LOSSES for word in (f"DISTILL.{loss}.WEIGHT", "2.0")]
    boxes = {name: TapSpec(name, (5,)) for name in ("boxes", "proposals", "masks")}
    boxes["crossed_3"] = TapSpec("crossed", (5,), targets="anchors")
    labeled = [{**side, **boxes} for side in (STUDENT, TEACHER)]
    for side in labeled:
        side["cls_logits"] = LABELED
        side["features"] = replace(side["features"], targets="objects")
    weights += ["DISTILL.AFDCD.GROUPS", "4"]  # of 8 channels
    distiller = build(*weights, *SOME_LABELS, student=labeled[0], teacher=labeled[1])
    assert str(distiller) == (
        "task + 2.0·dist(cls_logits) + 2.0·kd(cls_logits) + 2.0·dkd(cls_logits) + 2.0·mimic(features) "
        "+ 2.0·rkd(images) + 2.0·cirkd(features) + 2.0·cwd(features) + 2.0·pkd(features) + 2.0·attention(features) "
        "+ 2.0·fgd(features) + 2.0·mgd(features) + 2.0·afdcd(features) + 2.0·box(boxes) + 2.0·rpn(proposals) "
        "+ 2.0·crosskd(crossed_3) + 2.0·mask_distill(masks)"
    )
    assert distiller.needed == {"cls_logits", "features", "images", *boxes}
    assert distiller.targets == {"cls_logits", "features", "crossed_3"}


def test_feature_losses_are_summed_over_levels_behind_their_adapters():
    distiller = build("DISTILL.MIMIC.WEIGHT", "1.5", "DISTILL.PKD.WEIGHT", "1.0", "DISTILL.CWD.WEIGHT", "0.5")
    ours, theirs = maps([4, 6], 1), maps([8, 8], 2)
    losses = distiller({"features": Tap(ours, theirs)})
    for name, loss, weight in (("mimic", MimicLoss(), 1.5), ("pkd", PKDLoss(), 1.0), ("cwd", CWDLoss(), 0.5)):
        adapted = [adapter(x) for adapter, x in zip(distiller.adapters[name], ours, strict=True)]
        wanted = weight * sum(loss(s, t) for s, t in zip(adapted, theirs, strict=True))
        assert torch.allclose(losses[f"loss_{name}"], wanted)


def test_adapters_have_the_declared_channels_and_only_where_needed():
    distiller = build("DISTILL.MIMIC.WEIGHT", "1.0", "DISTILL.PKD.WEIGHT", "1.0")
    assert [(a.in_channels, a.out_channels) for a in distiller.adapters["mimic"]] == [(4, 8), (6, 8)]
    same = build("DISTILL.MIMIC.WEIGHT", "1.0", "DISTILL.PKD.WEIGHT", "1.0", student=TEACHER)
    assert set(same.adapters) == {"mimic"}  # the mimic of the paper adapts always


def test_relations_of_samples():
    weights = ["DISTILL.RKD.DISTANCE", "25.0", "DISTILL.RKD.ANGLE", "10.0"]
    distiller = build("DISTILL.RKD.WEIGHT", "1.0", "DISTILL.RKD.SAMPLES", "cells", *weights)
    student, teacher = [torch.randn(6, 4)], [torch.randn(6, 8)]
    loss = distiller({"cells": Tap(student, teacher)})["loss_rkd"]
    assert torch.allclose(loss, RKDLoss(25.0, 10.0)(student[0], teacher[0]))


def test_auxiliary_logits_count_where_both_sides_have_them():
    keys = ["DISTILL.DIST.WEIGHT", "2.0"]
    assert str(build(*keys, student=STUDENT | AUXILIARY)) == "task + 2.0·dist(cls_logits)"
    both = build(*keys, student=STUDENT | AUXILIARY, teacher=TEACHER | AUXILIARY)
    assert str(both) == "task + 2.0·dist(cls_logits) + 0.8·dist_aux_logits(aux_logits)"


@pytest.fixture
def own_loss():
    """Adds an entry to the registry, until the test is over."""
    yield LOSSES.__setitem__
    for name in set(LOSSES) - KNOWN:
        del LOSSES[name]


def test_own_loss_on_class_logits_goes_to_the_auxiliary_head_too(own_loss):
    own_loss("MSE", LossSpec(lambda *_: torch.nn.MSELoss(), "cls_logits", kinds=("rows",)))
    both = build("DISTILL.MSE.WEIGHT", "1.0", student=STUDENT | AUXILIARY, teacher=TEACHER | AUXILIARY)
    assert str(both) == "task + 1.0·mse(cls_logits) + 0.4·mse_aux_logits(aux_logits)"


def test_own_loss_on_samples_of_other_sizes_has_linear_adapters(own_loss):
    own_loss("MSE", LossSpec(lambda *_: torch.nn.MSELoss(), "images", kinds=("samples",)))
    distiller = build("DISTILL.MSE.WEIGHT", "1.0")
    student, teacher = [torch.randn(3, 4), torch.randn(3, 6)], [torch.randn(3, 8), torch.randn(3, 8)]
    assert distiller({"images": Tap(student, teacher)})["loss_mse"] > 0


@pytest.mark.parametrize("spatial", [False, True])
def test_rows_that_lie_apart_become_rows_for_a_loss_that_wants_them_so(spatial):
    seen = []

    class Mine(torch.nn.Module):
        def forward(self, student, teacher):
            seen.append(student)
            return (student - teacher).square().mean()

    spec = LossSpec(lambda *_: Mine(), "rows", kinds=("rows",), spatial=spatial)
    maps = torch.randn(2, 3, 4, 5)
    Distiller([Term("mine", "rows", 1.0, Mine(), spec)])({"rows": Tap([maps], [maps + 1], spatial=True)})
    assert seen[0].shape == ((2, 3, 4, 5) if spatial else (40, 3))
    assert torch.equal(seen[0] if spatial else seen[0].view(2, 4, 5, 3).movedim(3, 1), maps)


def test_rows_that_do_not_count():
    distiller = build("DISTILL.DIST.WEIGHT", "1.0")
    student, teacher = torch.randn(6, 4), torch.randn(6, 4)
    valid = torch.tensor([True, False, True, True, False, True])
    seen = distiller({"cls_logits": Tap([student], [teacher], [valid])})["loss_dist"]
    assert torch.allclose(seen, DISTLoss()(student[valid], teacher[valid]))


def test_tap_that_the_pair_does_not_have_lists_those_that_it_has():
    with pytest.raises(UserError) as error:
        build("DISTILL.RKD.WEIGHT", "1.0", "DISTILL.RKD.SAMPLES", "rois")
    assert str(error.value) == "DISTILL.RKD needs rois, which this pair does not have: want one of cells, images"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            ["DISTILL.CWD.WEIGHT", "1.0", "DISTILL.CWD.TAP", "cls_logits"],
            "DISTILL.CWD compares maps, but cls_logits of this pair is class logits as rows: want one of features",
        ),
        (
            ["DISTILL.RKD.WEIGHT", "1.0", "DISTILL.RKD.SAMPLES", "features"],
            "DISTILL.RKD compares samples, but features of this pair is maps: want one of cells, images",
        ),
    ],
)
def test_tap_of_another_kind_is_refused_when_it_is_built(keys, message):
    with pytest.raises(UserError, match=message):
        build(*keys)


def test_levels_that_do_not_match():
    with pytest.raises(UserError, match="the student has 1, the teacher 2"):
        build("DISTILL.MIMIC.WEIGHT", "1.0", student=STUDENT | {"features": TapSpec("maps", (4,))})


@pytest.mark.parametrize("loss", LOSSES)
def test_negative_weight(loss):
    with pytest.raises(UserError, match=rf"DISTILL\.{loss}\.WEIGHT is -1\.0: want 0 \(off\) or more"):
        config(f"DISTILL.{loss}.WEIGHT", "-1.0")


@pytest.mark.parametrize("loss", ["DIST", "KD", "DKD", "CIRKD", "CWD", "ATTENTION", "FGD"])
def test_temperature_out_of_range(loss):
    with pytest.raises(UserError, match=rf"DISTILL\.{loss}\.TAU is 0\.0: want a temperature above 0"):
        config(f"DISTILL.{loss}.TAU", "0.0")


def test_distillation_is_on_with_a_teacher_and_a_weight():
    teacher = ["DISTILL.TEACHER.WEIGHTS", "x.pth"]
    assert not is_on(config().DISTILL)
    assert not is_on(config(*teacher).DISTILL)
    assert not is_on(config("DISTILL.KD.WEIGHT", "1.0").DISTILL)
    assert is_on(config(*teacher, "DISTILL.KD.WEIGHT", "1.0").DISTILL)


def test_schedule_rises_and_decays():
    assert [LossWeightSchedule()(i) for i in (0, 50, 100)] == [1, 1, 1]
    linear = LossWeightSchedule(warmup=10, decay="linear", iterations=110)
    assert [linear(i) for i in (0, 5, 10, 60, 110)] == [0, 0.5, 1, 0.5, 0]
    cosine = LossWeightSchedule(decay="cosine", iterations=100)
    assert [cosine(i) for i in (0, 25, 50, 100)] == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, 0])


def test_schedule_multiplies_the_losses_and_is_part_of_the_plan():
    keys = ["DISTILL.DIST.WEIGHT", "1.0", "DISTILL.WARMUP_ITERS", "10", "DISTILL.DECAY", "cosine"]
    distiller = build(*keys)
    taps = {"cls_logits": Tap([torch.randn(6, 4)], [torch.randn(6, 4)])}
    whole = distiller(taps)["loss_dist"]  # outside of a run
    with EventStorage(5):
        assert torch.allclose(distiller(taps)["loss_dist"], whole / 2)
    assert str(distiller).endswith("(distillation rising over 10 iterations, falling to 0 by a cosine)")


@pytest.mark.parametrize(
    ("keys", "factor"),
    [
        ([], 0.5),
        (["DATASETS.UNLABELED", "('more',)"], 1),
        (["DISTILL.GRADIENT_SHARE", "0.2"], 1),
    ],
)
def test_distillation_falls_to_0_by_default_where_all_images_have_labels_and_nothing_else_limits_it(keys, factor):
    cfg = load(GRAMMAR, "", [*keys, "SOLVER.MAX_ITER", "100"])
    assert cfg.DISTILL.DECAY == "auto"
    assert LossWeightSchedule.of(cfg)(50) == factor


@pytest.mark.parametrize(("key", "value"), [("DECAY", "step"), ("WARMUP_ITERS", "-1")])
def test_schedule_out_of_range(key, value):
    with pytest.raises(UserError, match=f"DISTILL.{key} is {value}: want"):
        config(f"DISTILL.{key}", value)


def test_adapters_are_trained_with_a_model_and_no_part_of_its_state():
    model = torch.nn.Linear(2, 2)
    model.adapters = TrainingOnly({"mimic": torch.nn.ModuleList([torch.nn.Conv2d(4, 8, 1)])})
    assert set(model.state_dict()) == {"weight", "bias"}
    assert len(list(model.parameters())) == 4
    plain = torch.nn.Linear(2, 2)
    assert str(model.load_state_dict(plain.state_dict())) == "<All keys matched successfully>"
    own = model.adapters.state_dict()
    assert set(own) == {"mimic.0.weight", "mimic.0.bias"}
    with pytest.raises(RuntimeError, match=r"mimic\.0\.bias"):
        model.adapters.load_state_dict({"mimic.0.weight": own["mimic.0.weight"]})


@pytest.mark.parametrize(
    ("activation", "keys", "why"),
    [
        ("softmax", ["DISTILL.DIST.WEIGHT", "1.0"], "its softmax is 1 whatever the logits are; name the background"),
        ("softmax", ["DISTILL.KD.WEIGHT", "1.0"], "its softmax is 1 whatever the logits are; name the background"),
        (
            "sigmoid",
            ["DISTILL.DIST.WEIGHT", "1.0"],
            "a row of one has no relations; set DISTILL.DIST.BETA to 0, or DISTILL.DENSE_ROWS to locations",
        ),
        ("sigmoid", ["DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.BETA", "0.0"], None),
        ("sigmoid", ["DISTILL.KD.WEIGHT", "1.0"], None),
    ],
)
def test_one_column_that_teaches_nothing_is_refused(activation, keys, why):
    one = {"cls_logits": TapSpec("rows", (1, 1), activation)}
    if why is None:
        build(*keys, student=one, teacher=one)
        return
    with pytest.raises(UserError) as refused:
        build(*keys, student=one, teacher=one)
    assert str(refused.value).startswith(f"{keys[0].removesuffix('.WEIGHT')}: cls_logits has one column: {why}")


def test_a_loss_of_the_models_own_is_not_replaced():
    own, one = {"loss_mask": torch.ones(())}, torch.zeros(())
    assert merge_losses(own, {"loss_mask_distill": one}) == {"loss_mask": 1, "loss_mask_distill": 0}
    with pytest.raises(UserError, match="the model has a loss loss_mask already: give the one in LOSSES another"):
        merge_losses(own, {"loss_mask": one})


@pytest.mark.parametrize(
    ("keys", "tap", "message"),
    [
        (
            ["DISTILL.DKD.WEIGHT", "1.0", *SOME_LABELS],
            TapSpec("rows", (4,), "sigmoid"),
            "DISTILL.DKD: cls_logits goes through sigmoids, and DKD splits a softmax into a target and other classes: "
            "take KD or DIST",
        ),
        (
            ["DISTILL.DKD.WEIGHT", "1.0", *SOME_LABELS],
            LOGITS,
            "DISTILL.DKD needs the classes of labels for cls_logits, which this pair does not have: no tap of this "
            "pair will do: set DISTILL.DKD.WEIGHT to 0",
        ),
        (
            ["DISTILL.DKD.WEIGHT", "1.0"],
            LABELED,
            "DISTILL.DKD needs labels, and DATASETS.TRAIN is empty: take another loss",
        ),
        *(
            (
                [f"DISTILL.{loss}.WEIGHT", "1.0", f"DISTILL.{loss}.STANDARDIZE", "True"],
                tap,
                f"DISTILL.{loss}: cls_logits {why}",
            )
            for loss in ("DIST", "KD")
            for tap, why in (
                (
                    TapSpec("rows", (4,), "sigmoid"),
                    "goes through sigmoids, of which a row is no distribution over classes: set STANDARDIZE to False",
                ),
                (
                    TapSpec("rows", (2,), "softmax"),
                    "has two columns: standardized they are 1 and -1, whatever they were; set STANDARDIZE to False",
                ),
            )
        ),
    ],
)
def test_class_logits_that_a_loss_cannot_teach_by_are_refused(keys, tap, message):
    side = {"cls_logits": tap}
    with pytest.raises(UserError) as refused:
        build(*keys, student=side, teacher=side)
    assert str(refused.value) == message


@pytest.mark.parametrize(("key", "wanted"), [("DKD.ALPHA", "0"), ("FGD.LAMBDA", "0"), ("CIRKD.PLACES", "1")])
def test_numbers_out_of_range(key, wanted):
    with pytest.raises(UserError, match=rf"DISTILL\.{key} is -1.*: want {wanted} or more"):
        config(f"DISTILL.{key}", "-1" if key.endswith("PLACES") else "-1.0")


def test_the_plan_says_what_is_standardized():
    keys = [word for loss in ("DIST", "KD") for word in (f"DISTILL.{loss}.WEIGHT", "1.0")]
    distiller = build(*keys, "DISTILL.KD.STANDARDIZE", "True")
    assert str(distiller) == "task + 1.0·dist(cls_logits) + 1.0·kd(standardized cls_logits)"
    logits = [torch.randn(6, 4)], [torch.randn(6, 4)]
    seen = distiller({"cls_logits": Tap(*logits)})
    assert torch.equal(seen["loss_kd"], KDLoss(standardize=True)(logits[0][0], logits[1][0]))
    assert torch.equal(seen["loss_dist"], DISTLoss()(logits[0][0], logits[1][0]))


@pytest.mark.parametrize("name", ["DIST", "KD", "DKD", "RKD", "BOX", "MASK"])
def test_a_batch_without_rows_gives_zero_with_a_gradient(name):
    shape = {"MASK": (0, 1, 4, 4)}.get(name, (0, 5))
    student, spec = torch.zeros(shape, requires_grad=True), LOSSES[name]
    loss = spec.make(config().DISTILL[name], TapSpec("rows", (5,), "softmax"), False)
    tap = Tap([student], [torch.zeros(shape)], targets=lambda: [torch.zeros(0, dtype=torch.int64)])
    (seen,) = Distiller([Term("one", "rows", 1.0, loss, spec)])({"rows": tap}).values()
    seen.backward()
    assert seen.item() == 0
    assert student.grad.shape == shape
    target = {"target": torch.zeros(0, dtype=torch.int64)} if name == "DKD" else {}
    with pytest.raises(ValueError, match="got empty shape"):
        loss(torch.zeros(shape), torch.zeros(shape), **target)


def test_a_users_loss_may_take_no_rows_and_is_not_called_otherwise():
    """With sync it would take part in the other processes' collectives."""

    class Mine(torch.nn.Module):
        def forward(self, student, teacher, valid=None):
            called.append(None if valid is None else valid.tolist())
            return (student - teacher).sum()

    called, taps = [], {"rows": Tap([torch.zeros(0, 3, requires_grad=True)], [torch.zeros(0, 3)])}
    for no_rows in (True, False):
        spec = LossSpec(lambda *_: Mine(), "rows", kinds=("rows",), no_rows=no_rows)
        (loss,) = Distiller([Term("mine", "rows", 1.0, Mine(), spec)])(taps).values()
        loss.backward()
    assert called == [[]]


def test_targets_are_made_once_and_only_if_a_loss_asks():
    made = []

    def targets():
        made.append(1)
        return [torch.tensor([0, 1, 2])]

    tap = Tap([torch.randn(3, 4)], [torch.randn(3, 4)], targets=targets)
    terms = [
        Term(n, "rows", 1.0, LOSSES[n].make(config().DISTILL[n], LABELED, False), LOSSES[n]) for n in ("DKD", "KD")
    ]
    Distiller(terms[1:])({"rows": tap})
    assert not made
    Distiller([*terms, terms[0]])({"rows": tap})
    assert made == [1]
