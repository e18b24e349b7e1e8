"""The card in an export's folder of weights: README.md says to people what model.json says to programs."""

from collections.abc import Sequence
from pathlib import Path

from densedist.common.export import CARD, Description

FOLDER = "<this folder>"  # in the code of a card
IN_HEADING = ("task", "architecture", "classes")


def write_card(
    folder: Path, description: Description, library: str, pipeline: str, imports: Sequence[str], code: Sequence[str]
) -> None:
    """Write README.md. It names no license and no hub, as SMP's own card does: both are for the user to say.

    Args:
        description: what model.json holds.
        library, pipeline: what Hugging Face's hub calls the library, and the task.
        imports, code: lines of Python that load the weights from FOLDER.
    """
    classes = description["classes"]
    lines = ["---", f"library_name: {library}", f"pipeline_tag: {pipeline}", "---", f"# {description['architecture']}"]
    lines += ["", f"A model for {description['task']}, of {len(classes)} classes: {', '.join(classes)}.", ""]
    lines += ["```python", *imports, "", *code, "```", ""]
    lines += [f"- {key.replace('_', ' ')}: {said}" for key, said in description.items() if key not in IN_HEADING]
    lines += ["", "model.json says the same for programs.", ""]
    (folder / CARD).write_text("\n".join(lines), encoding="utf-8")
