"""docs/notebook.ipynb: it runs from top to bottom in a new process, and is stored without what it shows."""

import json
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from helpers.processes import call

FILE = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


def code():
    return [cell for cell in nbformat.read(FILE, as_version=4).cells if cell.cell_type == "code"]


def run():
    """Run the cells; print what each shows: its text, and the kinds of its value."""
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    cells = []
    for cell in code():
        with capture_output() as seen:
            done = shell.run_cell(cell.source)
        done.raise_error()
        kinds, _ = shell.display_formatter.format(done.result)
        cells.append({"text": seen.stdout, "kinds": list(kinds)})
    print(json.dumps(cells))


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    done = call(run, cwd=tmp_path_factory.mktemp("notebook"))
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_it_is_stored_as_one_writes_it():
    nbformat.validate(nbformat.read(FILE, as_version=4))
    assert not [cell.id for cell in code() if cell.outputs or cell.execution_count]


def test_the_log_of_training_is_not_shown(shown):
    cells = zip(code(), shown, strict=True)
    assert [seen["text"] for cell, seen in cells if "scores = densedist.train" in cell.source] == ["", ""]


def test_it_runs(shown):
    *_, examples, model, found, mistake = shown
    assert "image/png" in examples["kinds"]
    assert "PSPNet" in model["text"]
    assert "digits_000000_000000" in found["text"]
    assert mistake["text"] == "DISTILL.DIST.TAU is 0.0: want a temperature above 0\n"
