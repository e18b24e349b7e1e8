"""What a run leaves to look at: curves.png and report.html."""

import json
import re

import numpy as np
import pytest
from matplotlib.image import imread, imsave

from densedist.common.report.page import in_words, write_report

pytestmark = pytest.mark.drawn(curves=True)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    numbers = {"lr": 0.1, "total_loss": 3.0, "loss_ce": 1.0, "loss_dist": 2.0}
    lines = [{"iteration": i, "train_seconds": 0.5 * (i + 1), **numbers} for i in (19, 39)]
    lines.append({"iteration": 40, "sem_seg/mIoU": 61.25})
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "results.json").write_text(json.dumps({"sem_seg": {"mIoU": 61.25, "IoU-<car>": None}}))
    (folder / "config.yaml").write_text("SEED: 7\nOUTPUT_DIR: a<b\n")
    return folder


def test_page_holds_everything_in_itself(run):
    imsave(run / "examples.png", np.zeros((4, 4, 3)))
    write_report(run, "teacher  <none>", "sem_seg/mIoU", "torch 2, CPU", run / "examples.png")
    page = (run / "report.html").read_text()
    text = re.sub(r"base64,[^\"]*", "", page)
    assert "40 iterations, 20 s in training steps; torch 2, CPU" in text
    assert "<tr><td>mIoU</td><td>61.2</td></tr>" in text
    assert "<tr><td>IoU, &lt;car&gt;</td><td>-</td></tr>" in text
    assert "teacher  &lt;none&gt;" in text
    assert "<p>the highest mIoU is 61.2, after 40 iterations</p>" in text
    assert "OUTPUT_DIR: a&lt;b" in text
    assert page.count('src="data:image/png;base64,') == 2
    assert not re.search(r"(src|href)=\"(?!data:)", page)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bbox/AP", "AP of boxes"),
        ("segm/AP-traffic-light", "AP of masks, traffic-light"),
        ("digits_val/bbox/AP50", "digits_val, AP50 of boxes"),
        ("sem_seg/IoU-road", "IoU, road"),
    ],
)
def test_metrics_in_words(name, words):
    assert in_words(name) == words


def test_curves_of_what_was_written(run):
    write_report(run, "", "sem_seg/mIoU", "")
    _, width, _ = imread(run / "curves.png").shape
    (run / "metrics.json").write_text((run / "metrics.json").read_text().rpartition('{"iteration": 40')[0])
    write_report(run, "", "sem_seg/mIoU", "")
    assert imread(run / "curves.png").shape[1] == round(width * 2 / 3)  # no panel without an evaluation
    assert "Examples" not in (run / "report.html").read_text()


def test_run_of_a_few_iterations_has_no_curves(run):
    (run / "metrics.json").unlink()
    write_report(run, "", "sem_seg/mIoU", "")
    assert not (run / "report.html").exists()
