"""Two processes that label, one of which is killed at random: what --resume comes to is what nothing has disturbed."""

import random
import time
from functools import partial

import cv2
import pytest

from densedist.common.data import digits
from helpers import scenes, tiny
from helpers.labels import contents, in_processes, label_by

pytestmark = pytest.mark.slow  # fourteen times two processes
KILLS = 7


@pytest.mark.parametrize("task", ["det", "seg"])
def test_killed_at_random(task, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    files = [file for split in ("train", "val") for file in sorted(digits.images(split).glob("*.png"))]
    for number in range(5 * len(files)):
        picture = cv2.imread(str(files[number % len(files)]))
        cv2.imwrite(str(images / f"{number:03}.png"), cv2.resize(picture, None, fx=1 + number / 500, fy=1))
    teacher = (tiny if task == "det" else scenes).save_teacher(tmp_path / "teacher")[-1]
    job = partial(label_by, teacher, score_threshold=0.2)
    start = time.monotonic()
    assert in_processes(2, job, images, tmp_path / "whole")
    seconds = time.monotonic() - start
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    out, killed, finished = tmp_path / "out", 0, 0
    while killed < KILLS:
        if in_processes(2, job, images, out, draw.randrange(2), draw.uniform(0, 1) * seconds / 2):
            finished += 1
            assert contents(out) == contents(tmp_path / "whole")
            out = tmp_path / f"out{finished}"
        else:
            killed += 1
    assert in_processes(draw.choice([1, 2, 3]), job, images, out)
    assert contents(out) == contents(tmp_path / "whole")
