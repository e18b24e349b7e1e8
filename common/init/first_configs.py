"""densedist init: configs of a teacher and a student for a folder of data, and the commands that come next."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from densedist.common.errors import UserError
from densedist.common.files import write_text
from densedist.common.init.leftovers import leftovers
from densedist.common.init.text import BASE, STUDENT, TEACHER
from densedist.common.locks import refuse_there
from densedist.common.nearest import did_you_mean_path
from densedist.common.shell import command
from densedist.common.task import Beginning, Task

KEY = "--output-dir"


@dataclass(frozen=True)
class Step:
    """A command that comes next.

    Args:
        why: what it is for.
        words: the command, without its first word.
    """

    why: str
    words: Sequence[str]


def begin(tasks: Sequence[Task], folder: Path, output: Path) -> list[Step]:
    """Write configs for the data in a folder, say what was found, and return the commands that come next.

    Args:
        tasks: those that the data may be for.
        output: a folder that is made for the configs and the runs.

    Raises:
        UserError: no data is recognized, or data of both tasks; an output folder that is there. Nothing is written.
    """
    if not folder.is_dir():
        raise UserError(f"FOLDER: there is no folder {folder}{did_you_mean_path(folder)}")
    refuse_there(output, KEY)
    task, found = _find(tasks, folder.resolve(), output.resolve())
    rest = leftovers(folder.resolve(), found.files)
    _check(task, found)
    _write(found, output)
    print(_summary(folder, output, found, rest.notes))
    unlabeled = [folder / place.relative_to(folder.resolve()) for place in rest.unlabeled]
    return _next(output, unlabeled, task.best)


def in_words(steps: Sequence[Step]) -> str:
    """Return commands as lines for the user's shell, each below a comment."""
    return "\n".join(f"# {step.why}\n{command(*step.words)}" for step in steps)


def _find(tasks: Sequence[Task], folder: Path, output: Path) -> tuple[Task, Beginning]:
    found, reasons = [], []
    for task in tasks:
        try:
            found.append((task, task.first_configs(folder, output)))
        except UserError as error:
            reasons.append(f"{task.name}: {error}" if len(tasks) > 1 else str(error))
    if len(found) > 1:
        forms = " and ".join(f"{beginning.form} for {task.name}" for task, beginning in found)
        example = command("init", found[0][0].name, str(folder))
        raise UserError(f"{folder} has data in {forms}: choose one, as in {example}")
    if not found:
        raise UserError("; ".join(reasons))
    return found[0]


def _check(task: Task, found: Beginning) -> None:
    """Make sure that the configs are read, before there is anything to see of them."""
    with TemporaryDirectory() as folder:
        for name, text in found.configs.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        task.load_config(str(Path(folder, TEACHER)), [])
        task.load_config(str(Path(folder, STUDENT)), ["DISTILL.TEACHER.WEIGHTS", ""])


def _write(found: Beginning, output: Path) -> None:
    try:
        output.mkdir(parents=True)
        for name, text in found.configs.items():
            write_text(output / name, text)
    except OSError as error:
        shutil.rmtree(output, ignore_errors=True)
        raise UserError(f"{KEY}: cannot write to {output}: {error.strerror}: name another folder") from error


def _summary(folder: Path, output: Path, found: Beginning, notes: Sequence[str]) -> str:
    images = ", ".join(f"{count} images in {split}" for split, count in found.images.items())
    first = f"{folder}: {found.form}; {images}; {len(found.classes)} classes: {', '.join(found.classes)}"
    files = f"Written to {output}: {BASE} (data, sizes and schedule), {TEACHER} and {STUDENT}"
    return "\n".join([first, *(f"Note: {note}" for note in (*found.notes, *notes)), files])


def _next(output: Path, unlabeled: Sequence[Path], best: str) -> list[Step]:
    """Return the commands that come next.

    Args:
        best: the recommended method for images without labels.
    """
    teacher, student = str(output / TEACHER), str(output / STUDENT)
    folders = [str(place) for place in unlabeled]
    methods = "none,dist,dist+unlabeled,best" if folders else "none,dist"
    compare = ["compare", "--config-file", student, "--methods", methods, "--output-dir", str(output / "compare")]
    more = ["--unlabeled", ",".join(folders)] if folders else []
    keys = ["DATASETS.UNLABELED", str(folders)] if folders else []
    images = "images with and without labels" if folders else "the labeled images"
    steps = [
        Step("Is the data read as it is meant?", ["check", "--config-file", teacher]),
        Step("Train the teacher.", ["train", "--config-file", teacher]),
        Step(
            f"Distill the student on {images}. {output / 'student' / 'report.html'} shows it next to its teacher.",
            ["train", "--config-file", student, *keys],
        ),
    ]
    if folders:
        label = ["label", "--config-file", student, "--output-dir", str(output / "labels")]
        threshold = ["--score-threshold", "0"] if "SCORE_THRESHOLD=0" in best else []
        why = "Or let the teacher write labels; the command that trains the student on them is printed at the end."
        steps.append(Step(why, [*label, *threshold, *folders]))
    return [
        *steps,
        Step(
            f"What did the teacher add? Each method with three seeds, in {output / 'compare' / 'report.html'}.",
            [*compare, *more],
        ),
    ]
