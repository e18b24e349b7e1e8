"""`densedist label --num-gpus 2`, killed at random: what --resume comes to is what nothing has disturbed."""

import os
import random
import signal
import sys
import time

import cv2
import pytest

from densedist.common.data import digits
from helpers import scenes, tiny
from helpers.labels import contents
from helpers.processes import server

pytestmark = pytest.mark.slow  # each start imports everything
KILLS = 7


@pytest.fixture(params=["det", "seg"])
def words(request, tmp_path):
    """The command, but for where it writes to."""
    images = tmp_path / "images"
    images.mkdir()
    files = [file for split in ("train", "val") for file in sorted(digits.images(split).glob("*.png"))]
    for number in range(10 * len(files)):
        picture = cv2.imread(str(files[number % len(files)]))
        cv2.imwrite(str(images / f"{number:03}.png"), cv2.resize(picture, None, fx=1 + number / 500, fy=1))
    teacher = (tiny if request.param == "det" else scenes).save_teacher(tmp_path / "teacher")[-1]
    return ["label", request.param, "--weights", teacher, images, "--score-threshold", "0.2", "--output-dir"]


def label(words, kill_after=None):
    """Run the command in processes of one group, which may be killed after so many seconds; its exit code."""
    process = server.Process(target=_label, args=([str(word) for word in words],))
    process.start()
    process.join(kill_after)
    if process.is_alive():
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode


def _label(words):
    from densedist.command import main
    from densedist.common import labeling

    os.setpgrp()
    labeling.Labeling.__init__.__defaults__ = tuple(
        2 if default == labeling.SHARD else default for default in labeling.Labeling.__init__.__defaults__
    )
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    main(words)


def test_killed_at_random(words, tmp_path):
    start = time.monotonic()
    assert label([*words, tmp_path / "whole"]) == 0
    seconds = time.monotonic() - start
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw, killed = random.Random(seed), 0
    resumed = [*words, tmp_path / "out", "--num-gpus", "2", "--resume"]
    while killed < KILLS:
        if label(resumed, draw.uniform(0.1, 1.0) * seconds) == 0:
            assert contents(tmp_path / "out") == contents(tmp_path / "whole")
            for file in sorted((tmp_path / "out").rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            continue
        killed += 1
    assert label(resumed) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
