"""Detectron2's own DefaultTrainer: a student gets its teacher; its adapters are in the checkpoints and come back."""

import pytest
import torch
from detectron2.engine import DefaultTrainer

from densedist.common.errors import UserError
from densedist.det.default_trainer import KeepBeside, refuse_keys
from helpers.tiny import STUDENT, config, save_teacher


class Trainer(DefaultTrainer):
    """As docs/own_loop.md has it for losses with parameters."""

    @classmethod
    def build_model(cls, cfg):
        model = super().build_model(cfg)
        model.attach_teacher()
        return model


@pytest.fixture
def trained(tmp_path):
    """A trainer of so many iterations in one folder."""
    teacher = save_teacher(tmp_path / "teacher")

    def call(iterations, resume=False, hook=True):
        keys = ["DISTILL.MIMIC.WEIGHT", "1.0", "OUTPUT_DIR", tmp_path / "out", "SOLVER.MAX_ITER", iterations]
        keys += ["DATASETS.TEST", "()", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.OPTIMIZER", "SGD"]
        cfg = config(STUDENT, *teacher, *keys)
        (tmp_path / "out").mkdir(exist_ok=True)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume)
        if hook:
            trainer.register_hooks([KeepBeside()])
        return trainer

    return call


def adapters(trainer):
    return {name: x.clone() for name, x in trainer.model.distillation.distiller.adapters.state_dict().items()}


def test_adapters_come_back(trained):
    first = trained(2)
    first.train()
    second = trained(3, resume=True)
    assert any(not torch.equal(x, adapters(first)[name]) for name, x in adapters(second).items()), "new ones"
    hook = next(h for h in second._hooks if isinstance(h, KeepBeside))
    second.start_iter = 2
    hook.before_train()
    for name, x in adapters(second).items():
        torch.testing.assert_close(x, adapters(first)[name], rtol=0, atol=0)


def test_a_checkpoint_without_them_is_refused(trained):
    trained(2, hook=False).train()
    with pytest.raises(UserError, match=r"model_final.pth has no adapters: it was written without KeepBeside"):
        trained(3, resume=True).train()


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("SOLVER.OPTIMIZER", "AdamW", "AdamW"),
        ("SOLVER.ACCUMULATION_STEPS", "2", "2"),
        ("DATASETS.UNLABELED", "('digits_train',)", "('digits_train',)"),
        ("DATASETS.PSEUDO_LABELED", "['digits_train']", "['digits_train']"),
        ("SOLVER.TRUE_LABELS_LAST", "0.2", "0.2"),
        ("DISTILL.TEACHER.CACHE", "kept", "kept"),
    ],
)
def test_keys_that_it_does_not_read_are_refused(key, value, shown):
    sgd = ["SOLVER.OPTIMIZER", "SGD"]
    refuse_keys(config(STUDENT, *sgd))
    with pytest.raises(UserError, match="and Detectron2's DefaultTrainer does not read it: train with") as refused:
        refuse_keys(config(STUDENT, *sgd, key, value))
    assert str(refused.value).startswith(f"{key} is ")


@pytest.fixture
def plain_trainer(tmp_path):
    """Detectron2's DefaultTrainer in a folder, of a student with a teacher."""
    teacher = save_teacher(tmp_path / "teacher")
    (tmp_path / "out").mkdir()

    def call(*keys):
        keys = [*keys, "OUTPUT_DIR", tmp_path / "out", "SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()"]
        return DefaultTrainer(config(STUDENT, *teacher, "SOLVER.OPTIMIZER", "SGD", *keys))

    return call


def test_a_script_that_only_sets_the_keys_distills(plain_trainer, tmp_path):
    trainer = plain_trainer()
    assert trainer.model.distillation is None
    trainer.resume_or_load(False)
    trainer.train()
    assert '"loss_dist"' in (tmp_path / "out" / "metrics.json").read_text()


@pytest.mark.parametrize("hook", [True, False])
@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["DISTILL.MIMIC.WEIGHT", "1.0"], r"the loss mimic has parameters, which the optimizer does not know: call"),
        (
            ["DISTILL.INHERIT", "['neck']"],
            r"DISTILL.INHERIT: the student would start from its teacher",
        ),
    ],
)
def test_a_teacher_that_comes_too_late_for_the_optimizer_is_refused(plain_trainer, keys, said, hook):
    trainer = plain_trainer(*keys)
    trainer.register_hooks([KeepBeside()] if hook else [])
    with pytest.raises(UserError, match=said):
        trainer.train()
