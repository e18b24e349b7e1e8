"""Each loss's share of the gradient: against sums by hand, and without a trace in the training."""

import json
import math

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from densedist.common.distill.teacher import Teacher
from densedist.common.engine.gradients import Gradients, gradient_shares, in_words, is_look, outweighs
from densedist.common.engine.trainer import Trainer
from densedist.common.losses import DISTLoss, KDLoss
from helpers.calling import densedist
from helpers.scenes import SMALL, STUDENT, save_teacher


def test_shares_are_norms_on_what_several_losses_train():
    shared, alone, unused = (nn.Parameter(torch.tensor([3.0, 4.0])) for _ in range(3))
    losses = {"a": (shared * torch.tensor([3.0, 4.0])).sum(), "b": 2 * shared[0] + 100 * alone.sum()}
    shares = gradient_shares(losses, [shared, alone, unused])
    assert shares == {"a": pytest.approx(100 * 5 / 7), "b": pytest.approx(100 * 2 / 7)}
    assert in_words(Gradients(shares, None)) == "gradient on shared parameters: a 71 %, b 29 %"


def test_distillation_outweighs_the_labels_with_more_than_half_of_the_gradient():
    shares = {"loss_ce": 45.0, "loss_dist": 30.0, "loss_kd": 25.0}
    assert outweighs(Gradients(shares, None), {"loss_dist", "loss_kd"})
    assert not outweighs(Gradients(shares, None), {"loss_dist"})
    assert not outweighs(Gradients({}, None), {"loss_dist"})


def test_nothing_is_said_where_nothing_is_shared():
    one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    assert gradient_shares({"a": one.sum(), "b": two.sum()}, [one, two]) == {}
    assert gradient_shares({"a": (one * 0).sum(), "b": (one * 0).sum(), "c": torch.tensor(1.0)}, [one, two]) == {}


def test_a_weight_is_seen_as_it_is():
    torch.manual_seed(0)
    student, teacher = nn.Linear(8, 5).double(), torch.randn(40, 5, dtype=torch.float64)
    logits = student(torch.randn(40, 8, dtype=torch.float64))
    kd = KDLoss()(logits, teacher)
    for weight in (0.1, 1.0, 10.0):
        shares = gradient_shares({"task": kd, "kd": weight * kd}, list(student.parameters()))
        assert math.isclose(shares["kd"] / shares["task"], weight, rel_tol=1e-9)


def test_the_backward_pass_after_a_look_is_the_same():
    found = []
    for look in (False, True):
        torch.manual_seed(0)
        student, x = nn.Linear(8, 5), torch.randn(300, 8)
        logits, teacher = student(x), torch.randn(300, 5)
        losses = {"dist": DISTLoss(tau=2.0)(logits, teacher), "kd": KDLoss()(logits, teacher)}
        if look:
            gradient_shares(losses, list(student.parameters()))
        sum(losses.values()).backward()
        found.append(student.weight.grad)
    assert torch.equal(*found)


@pytest.mark.parametrize("scale", [2.0**16, 2.0**40, 1.0])
def test_shares_do_not_depend_on_the_scaler_of_float16(scale):
    """One loss's gradient is beyond float16 at the scaler's first scale, the other's below it without one."""
    layer, x = nn.Linear(8, 4), torch.full((2, 8), 3.0)
    torch.manual_seed(0)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    assert scaler.get_scale() == scale

    def shares(precision, scale):
        with torch.autocast("cpu", precision, enabled=precision is not None):
            out = layer(x)
        losses = {"large": 10 * out.float().sum(), "small": 1e-6 * out.float().sum()}
        return gradient_shares(losses, list(layer.parameters()), scale)

    found = shares(torch.float16, scaler.get_scale())
    assert found["large"] == pytest.approx(100, rel=1e-3)
    # Without a scale, as without a scaler, float16 rounds the small one.
    assert found["small"] == pytest.approx(shares(None, 1.0)["small"], rel=1e-2 if scale > 1 else 1)


class TwoLosses(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, batch):
        out = self.layer(torch.stack([sample["x"] for sample in batch]))
        return {"task": 10 * out.float().sum(), "distilled": 10 * out.float().sum()}


def test_a_step_in_float16_logs_shares_that_are_numbers():
    model = TwoLosses()
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), 1e-3), precision=torch.float16, teacher=Teacher(model))
    model.requires_grad_(True).train()
    trainer.reset_data_loader(lambda: iter([[{"x": torch.full((8,), 3.0)}] * 2]))
    trainer.iter, trainer.max_iter = 0, 1
    with EventStorage() as trainer.storage:
        trainer.run_step()
        seen = {name: value for name, (value, _) in trainer.storage.latest().items() if name.startswith("gradient/")}
    assert seen == {"gradient/task": pytest.approx(50), "gradient/distilled": pytest.approx(50)}


def test_nothing_is_said_of_a_gradient_that_is_not_finite():
    weight = nn.Parameter(torch.zeros(2))
    losses = {"a": weight.sum(), "root": weight.sqrt().sum()}
    assert gradient_shares(losses, [weight]) == {}
    assert gradient_shares(losses, [weight], 2.0**16) == {}


def test_few_iterations_look():
    assert [i for i in range(1000) if is_look(i, 1000)] == [0, 250, 500, 750]
    assert [i for i in range(50) if is_look(i, 50)] == [0, 20, 40]


def test_a_distilled_run_logs_shares_and_draws_them(tmp_path):
    teacher = save_teacher(tmp_path / "teacher")
    argv = ["--config-file", str(STUDENT), *SMALL, *teacher, "OUTPUT_DIR", str(tmp_path / "out"), "DATASETS.TEST", "[]"]
    densedist("train", "seg", *argv, "SOLVER.MAX_ITER", "1")
    line = json.loads((tmp_path / "out" / "metrics.json").read_text().splitlines()[0])
    assert line["gradient/loss_ce"] + line["gradient/loss_dist"] == pytest.approx(100)
    assert -1 <= line["gradient_cosine"] <= 1
    assert "iteration 0: gradient on shared parameters: loss_" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("held", "said"),
    [([], True), (["DISTILL.GRADIENT_SHARE", "0.2"], False), (["DISTILL.DECAY", "auto"], False)],
)
def test_a_run_says_what_holds_distillation_where_it_outweighs_the_labels(tmp_path, held, said):
    teacher = save_teacher(tmp_path / "teacher")
    argv = ["--config-file", str(STUDENT), *SMALL, *teacher, "OUTPUT_DIR", str(tmp_path / "out"), "DATASETS.TEST", "[]"]
    heavy = ["DISTILL.DIST.WEIGHT", "1000.0", *held]
    densedist("train", "seg", *argv, "SOLVER.MAX_ITER", "1", *heavy)
    assert ("DISTILL.DECAY linear" in (tmp_path / "out" / "log.txt").read_text()) == said
