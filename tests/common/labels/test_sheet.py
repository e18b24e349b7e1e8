"""The contact sheet: which images it shows, and that it is one file."""

import re

import numpy as np
import pytest

from densedist.common.labeling import Labeling
from densedist.common.labels.sheet import SCORE_BINS, Chosen, Sheet, of_thresholds, threshold, write_sheet
from densedist.common.report.panels import Panel
from densedist.common.run_files import Weights


def test_images_that_are_shown():
    chosen = Chosen()
    for number in range(100):
        chosen.add(number, None if number % 2 else number / 100, number % 50)
    kinds = chosen.kinds()
    assert list(kinds) == ["Ten at random", "The ten least sure", "The ten with most objects"]
    assert len(set(kinds["Ten at random"])) == 10
    assert kinds["The ten least sure"] == list(range(0, 20, 2))  # one without a label is not unsure
    assert kinds["The ten with most objects"] == [49, 99, 48, 98, 47, 97, 46, 96, 45, 95]


def test_few_images_with_labels_are_all_shown_once():
    chosen = Chosen()
    for number in range(40):
        chosen.add(number, 0.9 - number / 100 if number < 3 else None, number < 3)
    kinds = chosen.kinds()
    assert list(kinds) == ["Ten at random", "All 3 with objects, the least sure first"]
    assert kinds["All 3 with objects, the least sure first"] == [2, 1, 0]


def test_few_images_are_shown_once():
    chosen = Chosen()
    for number in range(10):
        chosen.add(number, 0.5, 0)
    assert chosen.kinds() == {"All images": list(range(10))}


@pytest.mark.drawn
def test_a_page_of_one_file(tmp_path):
    (tmp_path / "out").mkdir()
    histograms = np.zeros((2, SCORE_BINS), np.int64)
    histograms[0, 12] = 3

    def picture(number):
        if number == 8:
            raise FileNotFoundError
        return f"{number}.png", [Panel(np.zeros((8, 8, 3), np.uint8), "labels", "3 objects")]

    sheet = Sheet(
        verdict="3 objects in 1 images.",
        head=["objects", "threshold"],
        classes={"<cat>": ["3", "0.5"], "dog": ["0", threshold(np.inf)]},
        histograms=histograms,
        of="the objects",
        images={"All images": [7, 8], "The ten least sure": [8, 7], "The ten with most objects": []},
        picture=picture,
    )
    teacher = Weights("runs/big/model_final.pth", "", True)
    record = {"images": 40, "labeled_images": 1, "highest_score": 0.7}
    record |= {"classes": {"<cat>": {"labels": 3, "score": 0.5}, "dog": {"labels": 0, "score": None}}}
    text = write_sheet(Labeling([teacher], {}, tmp_path / "out"), sheet, record).read_text()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["labels.html"]
    for part in ("Labels: out", "written by big", "3 objects in 1 images.", "&lt;cat&gt;", "7.png", "data:image/png;"):
        assert part in text
    assert text.count("<svg") == 1  # a class without labels has no histogram
    assert "Scores of the objects" in text
    assert "1 of 2 cannot be read." in text
    assert "1 of 2 cannot be read; 1 of 2 are shown above: 7.png." in text
    assert text.count("<figure>") == 1
    assert "<p>Little to train on: 1 of 40 images has labels; the highest score is 0.7; give a lower" in text
    assert "<p>There are no labels, or hardly any, of dog (1 of 2 classes).</p>" in text
    assert "The ten with most objects" not in text
    width, place = (float(re.search(x, text)[1]) for x in (r'viewBox="0 0 ([\d.]+)', r'x="([\d.]+)"[^>]*>1\.0<'))
    assert place + len("1.0") * 10 * 0.6 / 2 < width  # half of a number in letters of 10 px


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"score": 0.3}, "Threshold: a prediction with at least this score is a label (--score-threshold)."),
        ({"score": None}, "so that F1 on DATASETS.TEST is best (--choose-thresholds)."),
        (
            {"score": None, "choose": "precision:0.9"},
            "so that 90% of the predictions on DATASETS.TEST are right (--choose-by precision:0.9).",
        ),
        ({"score": None, "choose": "frequencies"}, "so that labels are as frequent as in DATASETS.TRAIN"),
    ],
)
def test_how_thresholds_were_chosen(tmp_path, settings, said):
    assert said in of_thresholds(Labeling([], {}, tmp_path, **settings))
