"""docs/notebook.ipynb: it runs from top to bottom in a new process, and is stored without what it shows."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FILE = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell):
    """What a cell shows as text, its log left out."""
    return "".join(
        output.text if output.output_type == "stream" else output.data["text/plain"]
        for output in cell.outputs
        if output.get("name") != "stderr"
    )


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    notebook = nbformat.read(FILE, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    return NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()


def test_it_is_stored_as_one_writes_it():
    notebook = nbformat.read(FILE, as_version=4)
    nbformat.validate(notebook)
    assert not [cell.id for cell in code(notebook) if cell.outputs or cell.execution_count]


def test_the_log_of_training_is_not_shown(executed):
    assert sum(len(cell.outputs) for cell in code(executed)) < 20


def test_it_runs(executed):
    *_, examples, model, found, mistake = code(executed)
    assert "image/png" in examples.outputs[0].data
    assert "PSPNet" in shown(model)
    assert "digits_000000_000000" in shown(found)
    assert shown(mistake) == "DISTILL.DIST.TAU is 0.0: want a temperature above 0\n"
