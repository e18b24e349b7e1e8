"""The pages in docs/: every command is run, shortened, in the order of the pages, or is marked as needing data."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from densedist.common.distill.registry import LOSSES

ROOT = Path(__file__).parents[1]
PAGES = {page.name: page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
BLOCK = re.compile(r"```(\w+)([^\n]*)\n(.*?)```", re.DOTALL)
# The later ones use what the first one trains.
RUN = ("start.md", "losses.md", "new_loss.md")
SHORT = ["SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0", "TEST.EVAL_PERIOD", "0"]
SHORT += ["TEST.EXAMPLES", "2"]
LESS = {"compare.py": ["--seeds", "0"], "visualize.py": ["--images", "2"], "export.py": ["--images", "2"]}


def blocks(page, language):
    """(mark, text) of each."""
    return [(mark.strip(), text) for kind, mark, text in BLOCK.findall(PAGES[page]) if kind == language]


def commands(page):
    """Those that need no data, as lists of words."""
    texts = [text.replace("\\\n", " ") for mark, text in blocks(page, "sh") if mark != "needs-data"]
    return [shlex.split(line) for text in texts for line in text.splitlines() if line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's working folder: configs, and the files that the pages show."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "configs").symlink_to(ROOT / "configs")
    for page in PAGES:
        for _, text in blocks(page, "python"):
            if named := re.search(r"\b(train_\w+\.py)\b", text):
                (folder / named[1]).write_text(text)
    (folder / "my_backbone.py").write_text("")
    return folder


@pytest.fixture(autouse=True)
def same_losses():
    """What a page adds is gone after it."""
    known = dict(LOSSES)
    yield
    for name in set(LOSSES) - set(known):
        del LOSSES[name]


@pytest.mark.parametrize(("page", "command"), [(page, words) for page in RUN for words in commands(page)])
def test_command(page, command, folder, monkeypatch, capsys):
    tool = Path(command[2])
    assert command[:2] == ["uv", "run"]
    trains = tool.name.startswith("train") or tool.name == "compare.py"
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [*command[2:], *LESS.get(tool.name, []), *(SHORT if trains else [])])
    runpy.run_path(str(ROOT / tool if tool.parent.name == "tools" else folder / tool), run_name="__main__")
    if tool.name == "train_huber.py":
        assert "task + 1.0·huber(features)" in capsys.readouterr().out


def test_other_pages_have_no_command_that_is_not_run():
    """README's are run by the tests of the quickstart, and by whoever runs this."""
    assert not [command for page in set(PAGES) - {*RUN, "README.md"} for command in commands(page)]


@pytest.mark.parametrize(
    ("page", "text"), [(page, text) for page in PAGES for _, text in blocks(page, "python")], ids=lambda x: x[:20]
)
def test_python(page, text, folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    exec(compile(text, page, "exec"), {"__name__": "page"})


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    base = ROOT if page == "README.md" else ROOT / "docs"
    links = re.findall(r"\]\((?!http)([^)#]+)\)", PAGES[page])
    assert not [link for link in links if not (base / link).exists()]
