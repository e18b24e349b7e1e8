"""DISTILL.GRADIENT_SHARE: distillation has that share of the gradient, whatever else multiplies losses."""

import json
import math

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from densedist.common.distill.distiller import Distiller, LossWeightSchedule, Term
from densedist.common.distill.spec import LossSpec
from densedist.common.distill.teacher import Teacher
from densedist.common.engine.gradient_share import GradientShare
from densedist.common.engine.gradients import compare_gradients
from densedist.common.engine.trainer import Trainer
from densedist.common.errors import UserError
from densedist.common.losses import MimicLoss
from densedist.det.default_trainer import refuse_keys
from helpers import tiny
from helpers.calling import densedist
from helpers.distillers import build
from helpers.processes import run_processes
from helpers.scenes import SMALL, STUDENT, save_teacher

LOSS = LossSpec(lambda *_: MimicLoss(), "features")


def share_of(share=0.2, period=50, **schedule):
    terms = [Term("dist", "features", 1.0, MimicLoss(), LOSS), Term("rkd", "features", 1.0, MimicLoss(), LOSS)]
    return GradientShare(Distiller(terms, schedule=LossWeightSchedule(**schedule), share=share), period)


class Losses(nn.Module):
    """Two losses of the task and two of distillation, on a parameter that all train and on one that one alone does."""

    def __init__(self):
        super().__init__()
        self.shared, self.alone = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.ones(2))

    def forward(self, batch):
        a, b = (sum(sample[name] for sample in batch) for name in ("task", "distilled"))
        return {
            "loss_ce": a * self.shared.sum(),
            "loss_dist": b * 2 * self.shared[0],
            "loss_rkd": b * self.shared[1],
            "loss_box": a * self.shared[0] + 100 * self.alone.sum(),
        }


def gradients(losses, parameter):
    sides = ([x for name, x in losses.items() if (name in ("loss_dist", "loss_rkd")) == side] for side in (False, True))
    return [torch.autograd.grad(sum(side), parameter, retain_graph=True)[0] for side in sides]


def trainer_of(share, batches, **options):
    model = Losses()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer = Trainer(model, optimizer, teacher=Teacher(nn.Linear(1, 1)), share=share, distilled=share.names, **options)
    trainer.reset_data_loader(lambda: iter([[{"task": t, "distilled": d, "name": "image"}] for t, d in batches]))
    trainer.max_iter = 1000
    return trainer


def steps(trainer, count):
    """The gradient that each step took, and what was logged."""
    found = []
    with EventStorage() as trainer.storage:
        for trainer.iter in range(count):
            trainer.run_step()
            found.append(trainer.model.shared.grad.clone())
        return found, {name: value for name, (value, _) in trainer.storage.latest().items()}


@pytest.mark.parametrize("share", [0.05, 0.2, 0.8])
def test_distillation_has_its_share_from_the_first_step_on(share):
    """Task: a·(2, 1); distillation: b·(2, 1), on what both train."""
    (gradient,), logged = steps(trainer_of(share_of(share), [(3.0, 7.0)]), 1)
    task, direction = math.sqrt(5) * 3, torch.tensor([2.0, 1.0]) / math.sqrt(5)
    torch.testing.assert_close(gradient, (task + task * share / (1 - share)) * direction)
    assert logged["gradient_share"] == pytest.approx(100 * share)
    assert logged["gradient_cosine"] == pytest.approx(1)
    assert logged["gradient_factor"] == pytest.approx(3 / 7 * share / (1 - share))
    assert logged["loss_dist"] == pytest.approx(logged["gradient_factor"] * 7 * 6)
    assert logged["total_loss"] == pytest.approx(
        sum(logged[f"loss_{name}"] for name in ("ce", "box", "dist", "rkd")), rel=1e-6
    )


def test_between_looks_the_factor_stays_and_looks_are_averaged():
    batches = [(1.0, 1.0), (1.0, 9.0), (1.0, 4.0), (1.0, 4.0)]
    share = share_of(0.5, period=2)
    found, logged = steps(trainer_of(share, batches), 4)
    ratio = math.exp(0.5 * math.log(1) + 0.5 * math.log(4))
    size = [1 + 1, 1 + 9, 1 + 4 / ratio, 1 + 4 / ratio]
    for gradient, wanted in zip(found, size, strict=True):
        torch.testing.assert_close(gradient, wanted * torch.tensor([2.0, 1.0]))
    assert logged["gradient_factor"] == pytest.approx(1 / ratio) == share.factor


def test_accumulated_parts_have_one_factor():
    batches = [(1.0, 2.0), (5.0, 8.0)]
    (gradient,), _ = steps(trainer_of(share_of(0.5), batches, accumulation_steps=2), 1)
    torch.testing.assert_close(gradient, (1 + 5 + 0.5 * (2 + 8)) / 2 * torch.tensor([2.0, 1.0]))


def test_warmup_and_decay_multiply_what_has_the_share():
    """Nothing can be measured while warm-up is at 0; the next iteration measures."""
    share, model = share_of(0.5, period=10, warmup=4, decay="linear", iterations=24), Losses()
    parameters = list(model.parameters())

    def at(iteration):
        losses = model([{"task": 3.0, "distilled": 7.0}])
        factor = share.schedule(iteration)
        losses |= {name: factor * losses[name] for name in ("loss_dist", "loss_rkd")}
        if share.is_due(iteration):
            share.look(losses, iteration, parameters, 1.0)
        task, distilled = (x.norm().item() for x in gradients(share.scaled(losses), model.shared))
        return distilled / task

    assert at(0) == 0
    assert share.factor == 1.0
    assert [at(i) for i in (1, 2, 3, 4, 14, 20, 23)] == pytest.approx([0.25, 0.5, 0.75, 1, 0.5, 0.2, 0.05])


def test_what_cannot_be_measured_leaves_the_factor():
    share, model = share_of(period=3), Losses()
    losses = model([{"task": 1.0, "distilled": 0.0}])
    assert share.look(losses, 0, list(model.parameters()), 1.0) == {}
    assert share.factor == 1.0
    assert [i for i in range(12) if share.is_due(i)] == list(range(12))
    share.look(model([{"task": 1.0, "distilled": 2.0}]), 1, list(model.parameters()), 1.0)
    factor = share.factor
    losses = model([{"task": 1.0, "distilled": math.inf}])
    assert share.look(losses, 3, list(model.parameters()), 1.0) == {}
    assert share.factor == factor != 1.0
    assert [i for i in range(12) if share.is_due(i)] == [0, 3, 6, 9]


def test_float16_scaler_does_not_matter():
    model = Losses()
    losses, factors = model([{"task": 1e-3, "distilled": 1e-6}]), []
    for scale in (1.0, 2.0**16):
        share = share_of()
        share.look(losses, 0, list(model.parameters()), scale)
        factors.append(share.factor)
    assert factors[0] == pytest.approx(factors[1], rel=1e-6)


def test_the_cosine_is_that_of_the_sums():
    model = Losses()
    x = model.shared
    losses = {"a": x[0] + x[1], "b": x[0], "dist": x[1] * 2 - x[0], "rkd": x[1] * 0}
    found = compare_gradients(losses, [x, model.alone], 1.0, ["dist", "rkd"])
    assert found.cosine == pytest.approx((-2 + 2) / 5)
    losses["rkd"] = 3 * x[1]
    assert compare_gradients(losses, [x], 1.0, ["dist", "rkd"]).cosine == pytest.approx((-2 + 5) / math.sqrt(5 * 26))
    assert compare_gradients(losses, [x]).cosine is None


def look_together(rank, count):
    share, model = share_of(0.5), Losses()
    losses = model([{"task": 1.0, "distilled": (1.0, 3.0)[rank]}])
    share.look(losses, 0, list(model.parameters()), 1.0)
    task, distilled = (1 / 2 + 1 / 4) / 2, (1 / 2 + 3 / 4) / 2
    assert share.factor == pytest.approx(task / distilled)
    # One without distillation has a share of 0; one that is not finite keeps all from measuring.
    losses = model([{"task": 1.0, "distilled": (1.0, 0.0)[rank]}])
    assert share.look(losses, 50, list(model.parameters()), 1.0)["gradient_cosine"] == pytest.approx(0.5)
    losses = model([{"task": 1.0, "distilled": (1.0, math.inf)[rank]}])
    assert share.look(losses, 50, list(model.parameters()), 1.0) == {}


def test_all_processes_have_the_same_factor():
    run_processes(2, look_together)


def test_state_goes_into_checkpoints_and_may_be_missing_there():
    first, second = share_of(0.5), share_of(0.5)
    one, two = trainer_of(first, [(1.0, 2.0)] * 3), trainer_of(second, [(1.0, 2.0)] * 3)
    steps(one, 2)
    state = one.state_dict()
    two.load_state_dict(state)
    assert second.state_dict() == first.state_dict()
    assert second.factor == pytest.approx(0.5)
    del state["gradient_share"]
    two.load_state_dict(state)
    assert second.factor == pytest.approx(0.5)
    assert "gradient_share" not in Trainer(one.model, one.optimizer).state_dict()


def test_a_run_says_and_logs_its_share(tmp_path):
    keys = [*save_teacher(tmp_path / "teacher"), "DISTILL.GRADIENT_SHARE", "0.2", "DISTILL.GRADIENT_PERIOD", "2"]
    argv = ["--config-file", str(STUDENT), *SMALL, *keys, "OUTPUT_DIR", str(tmp_path / "out"), "DATASETS.TEST", "[]"]
    densedist("train", "seg", *argv, "SOLVER.MAX_ITER", "3", "REHEARSAL", "True")
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "1.0·dist(cls_logits at stride 8, 8x8) (distillation 20 % of the gradient)" in log
    assert "at the start, gradient on shared parameters: " in log
    assert ", before GRADIENT_SHARE" in log
    line = {}
    for text in (tmp_path / "out" / "metrics.json").read_text().splitlines():
        line |= json.loads(text)
    assert line["gradient/loss_dist"] == pytest.approx(20)
    assert -1 <= line["gradient_cosine"] <= 1
    assert line["gradient_factor"] > 0
    assert "cosine of distillation" in (tmp_path / "out" / "report.html").read_text()


def test_it_is_refused_where_it_cannot_be():
    keys = ["DISTILL.MIMIC.WEIGHT", 1.0, "DISTILL.GRADIENT_SHARE"]
    with pytest.raises(UserError) as refused:
        build(*keys, 0.2, "DATASETS.TRAIN", "()")
    assert str(refused.value) == (
        "DISTILL.GRADIENT_SHARE is 0.2, but DATASETS.TRAIN is empty: there is no loss with labels to share the "
        "gradient with; set it to 0"
    )
    with pytest.raises(UserError, match=r"^DISTILL\.GRADIENT_SHARE is 1\.0: want 0 \(off\) to below 1$"):
        build(*keys, 1.0)
    with pytest.raises(UserError, match=r"^DISTILL\.GRADIENT_PERIOD is 0: want 1 or more$"):
        build("DISTILL.GRADIENT_PERIOD", 0)
    with pytest.raises(UserError, match=r"^DISTILL\.GRADIENT_SHARE is 0\.2, and Detectron2's DefaultTrainer does not"):
        refuse_keys(tiny.config(tiny.STUDENT, "SOLVER.OPTIMIZER", "SGD", "DISTILL.GRADIENT_SHARE", "0.2"))
