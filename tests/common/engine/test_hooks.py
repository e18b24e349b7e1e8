"""Hooks of a run in addition to Detectron2's."""

from detectron2.engine import HookBase
from detectron2.engine.train_loop import TrainerBase

from densedist.common.engine import hooks


class Counting(TrainerBase):
    def run_step(self):
        self.storage.put_scalar("number", float(self.iter))


class Look(HookBase):
    def after_train(self):
        self.history = self.trainer.storage.history("number")


def test_long_runs_keep_recent_values_only(monkeypatch):
    monkeypatch.setattr(hooks, "RECENT", 3)
    trainer, look = Counting(), Look()
    trainer.register_hooks([hooks.RecentHistories(), look])
    trainer.train(0, 10)
    assert [value for value, _ in look.history.values()] == [7, 8, 9]
    assert look.history.global_avg() == 4.5
