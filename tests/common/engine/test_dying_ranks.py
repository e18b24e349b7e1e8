"""Several processes of which one dies, is at fault, or is asked to end: what the user sees, and when."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import scenes

pytestmark = pytest.mark.slow  # each starts three processes that import everything
ROOT = Path(__file__).parents[3]
TOOL = [sys.executable, ROOT / "tools" / "train_seg.py", "--config-file", scenes.STUDENT, "--num-gpus", "2"]
ENDLESS = [*scenes.SMALL, "DATASETS.TEST", "['test']", "SOLVER.MAX_ITER", "1000000", "SOLVER.CHECKPOINT_PERIOD", "2"]


@pytest.fixture
def running(tmp_path):
    """A run that has come to its first checkpoint: (the process, the pids of its ranks, its folder)."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    argv = [str(word) for word in (*TOOL, *ENDLESS, "OUTPUT_DIR", tmp_path)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "last_checkpoint").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
        yield process, [pid for pid, command in commands.items() if "spawn_main" in command], tmp_path
    finally:
        process.kill()


def test_the_rest_ends_when_a_rank_is_killed_and_says_why_last(running):
    process, ranks, _ = running
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    last = "error: process 1 terminated with signal SIGKILL; --resume continues from the last checkpoint"
    assert errors.strip().splitlines()[-1] == last
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


def test_sigterm_to_the_tool_ends_all_ranks_with_a_checkpoint(running):
    process, ranks, folder = running
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    log = (folder / "log.txt").read_text()
    assert log.count("SIGTERM: ending with exit code 75") == 1
    saved = log[: log.index("SIGTERM")].rpartition("Saving checkpoint to ")[2].splitlines()[0]
    assert (folder / "last_checkpoint").read_text() == Path(saved).name


def test_mistake_that_one_rank_finds_is_one_line(tmp_path):
    """Its share of the images, not that of the main process, holds the unknown label; nobody looked before."""
    tree = scenes.write_tree(tmp_path / "town", size=(96, 120), ids=(1, 99), count=1)
    keys = ["DATASETS.ROOT", tree, "DATASETS.TEST", "['train']", "OUTPUT_DIR", tmp_path / "out"]
    keys += ["DATALOADER.CHECK_FILES", "False"]
    argv = [str(word) for word in (*TOOL, *scenes.SMALL, *keys)]
    done = subprocess.run(argv, capture_output=True, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"))
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {tree}/gtFine/train/town/town_000000_000000")
