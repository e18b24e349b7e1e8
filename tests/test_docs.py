"""The pages in docs/: every command is run, shortened, in the order of the pages, or is marked as needing data."""

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from densedist.common.distill.registry import LOSSES
from densedist.det.data.formats import FORMATS
from densedist.det.task import TASK as DET
from densedist.known_keys import reference
from densedist.seg.task import TASK
from helpers import folders
from helpers.calling import accepted, advised_as, complaint, densedist
from helpers.pages import PAGES, ROOT, blocks, lines

# The later ones use what the first one trains.
RUN = ("start.md", "compare.md", "tune.md", "labels.md", "new_loss.md", "own_data.md")
SHORT = {"SOLVER.MAX_ITER": 2, "SOLVER.IMS_PER_BATCH": 2, "DATALOADER.NUM_WORKERS": 0, "TEST.EVAL_PERIOD": 0}
SHORT |= {"TEST.EXAMPLES": 0, "REHEARSAL": False}
LESS = {
    "compare": ["--seeds", "0"],
    "tune": ["--trials", "1", "--budget", "1"],
    "visualize": ["--images", "2"],
    "export": ["--images", "2", "--format", "weights"],  # test_seg_export.py has all of them
}


def commands(page):
    """Those that need no data, as lists of words."""
    cache = os.environ["XDG_CACHE_HOME"]
    return lines(text.replace("~/.cache", cache) for mark, text in blocks(page, "sh") if mark != "needs-data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's working folder with the files that the pages show."""
    folder = tmp_path_factory.mktemp("docs")
    folders.yolo(folder / "photos")
    for page in PAGES:
        for _, text in blocks(page, "python"):
            if named := re.match(r'"""(my_\w+\.py): ', text):
                (folder / named[1]).write_text(text)
    return folder


@pytest.fixture(autouse=True, scope="module")
def same_tables():
    """What the pages add is gone after them."""
    known = [dict(table) for table in (LOSSES, FORMATS)]
    yield
    for table, before in zip((LOSSES, FORMATS), known, strict=True):
        for name in set(table) - set(before):
            del table[name]


@pytest.mark.parametrize(("page", "command"), [(page, words) for page in RUN for words in commands(page)])
def test_command(page, command, folder, monkeypatch, capsys):
    assert command[:3] == ["uv", "run", "densedist"]
    monkeypatch.chdir(folder)
    name = command[3]
    trained = SHORT | {"TEST.EXAMPLES": 1}  # predict takes what train draws
    keys = {"train": trained, "compare": SHORT, "tune": SHORT}.get(name, {})
    short = [word for pair in keys.items() for word in pair]
    densedist(*command[3:], *LESS.get(name, []), *short)
    printed = capsys.readouterr().out
    if name == "train" and page == "new_loss.md":
        assert "task + 1.0·huber(features)" in printed
    for word in ("next", "export"):
        for words in advised_as(word, printed):
            accepted(monkeypatch, *words)
    if name == "train" and "output/student" in command:
        assert advised_as("export", printed) == [["export", "--weights", "output/student"]]


def test_other_pages_have_no_command_that_is_not_run():
    """README's are run by the tests of the quickstart, and by whoever runs this; others by tests of their own."""
    assert not [command for page in set(PAGES) - {*RUN, "README.md", "foundation.md"} for command in commands(page)]


NEEDING = [
    pytest.param(words, id=f"{page}-{number}")
    for page in PAGES
    for number, words in enumerate(lines(text for mark, text in blocks(page, "sh") if mark == "needs-data"))
    if words[:3] == ["uv", "run", "densedist"]
]
# What a command says of data, configs and weights that are not there.
MISSING = re.compile(
    "there is no|no such|is neither a|has no (annotation file|image folder)|does not exist|no image in", re.I
)


@pytest.mark.parametrize("command", NEEDING)
def test_a_command_that_needs_data_lacks_nothing_else(command, tmp_path, monkeypatch, capsys):
    """Its options are read before the data are looked for; its keys are those of a task."""
    keys = [word for word in command if re.fullmatch(r"[A-Z][A-Z_]+(\.[A-Z0-9_]+)+", word)]
    assert set(keys) <= {row.name for row in reference()}
    monkeypatch.chdir(tmp_path)
    assert MISSING.search(complaint(capsys, *command[3:]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        block
        for page in PAGES
        for block in blocks(page, "python")
        if block[0] not in ("needs-detector", "needs-segmenter")  # of test_own_models_page.py
    ],
    ids=lambda x: x[:20],
)
def test_python(mark, text, folder, monkeypatch):
    """Of python.md after the commands of start.md, whose teacher and student it takes."""
    monkeypatch.chdir(folder)
    if mark == "needs-run":
        shortened = text.replace('"DISTILL.DIST.TAU": 4.0}', '"DISTILL.DIST.TAU": 4.0} | SHORT')
        assert shortened != text
        text = shortened
    exec(compile(text, "page", "exec"), {"__name__": "page", "SHORT": SHORT})


def test_the_segmentation_config_of_the_readme(tmp_path, monkeypatch):
    ((_, text),) = blocks("README.md", "yaml")
    for split in ("train", "val"):
        for folder, shape in (("photos", (64, 64, 3)), ("masks", (64, 64))):
            (tmp_path / folder / split).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / folder / split / "1.png"), np.zeros(shape, np.uint8))
    (tmp_path / "config.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    cfg = TASK.load_config("config.yaml", ["DISTILL.TEACHER.WEIGHTS", ""])
    TASK.check_data(cfg)
    assert cfg.MODEL.ARCHITECTURE == "PSPNet"


def test_the_data_format_of_a_page_is_read(folder, monkeypatch):
    monkeypatch.chdir(folder)
    cv2.imwrite("1.png", np.zeros((20, 30, 3), np.uint8))
    Path("boxes.csv").write_text("file,class,x0,y0,x1,y1\n1.png,cup,1,2,11,12\n1.png,bowl,3,4,5,6\n")
    (text,) = [text for _, text in blocks("new_parts.md", "yaml") if "CSV_FORMAT" in text]
    Path("csv.yaml").write_text(text.replace("photographs", "."))
    keys = ["MODEL.META_ARCHITECTURE", "DistillRCNN", "MODEL.ROI_HEADS.NUM_CLASSES", "2", "MODEL.DEVICE", "cpu"]
    cfg = DET.load_config("csv.yaml", keys)
    DET.check_data(cfg, "TRAIN")
    assert list(cfg.DATASETS.CLASSES) == ["bowl", "cup"]
    assert [d["annotations"][0]["bbox"] for d in DatasetCatalog.get("mine")] == [[1.0, 2.0, 10.0, 10.0]]


@pytest.mark.parametrize("page", [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md"))])
def test_a_page_ends_with_what_to_read_next(page):
    last = page.read_text().strip().split("\n\n")[-1]
    assert re.match(r"Next: .*\]\(", last, re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    base = ROOT if page == "README.md" else ROOT / "docs"
    links = re.findall(r"\]\((?!http)([^)#]+)\)", PAGES[page])
    assert not [link for link in links if not (base / link).exists()]
