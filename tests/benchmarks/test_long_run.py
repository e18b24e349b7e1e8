"""The long run of empty steps ends, is resumed, and says what it took."""

from pathlib import Path

from benchmarks import long_run
from densedist.seg.task import TASK


def test_it_is_ended_and_resumed_on_the_way(monkeypatch):
    began = []
    train = long_run.train

    def and_watch(cfg, task, **options):
        began.append(len(list(Path(cfg.OUTPUT_DIR).glob("model_*.pth"))) > 0)
        train(cfg, task, **options)

    monkeypatch.setattr(long_run, "train", and_watch)
    result = long_run.ours(TASK, 40)
    assert began == [False, True, True]
    assert result.steps == 40
    assert result.checkpoints == long_run.KEPT + 2  # of the last steps, the best and the last one
    assert 0 < result.memory[0] <= result.memory[1]


def test_the_table_has_a_row_for_each_loop():
    row = long_run.Result("ours", 200, 0.0012, (100_000_000, 101_000_000), 2_300_000, 3)
    (shown,) = long_run.table([row])
    assert list(shown.values()) == ["ours", "200", "1.200", "100", "101", "2.3", "3"]
