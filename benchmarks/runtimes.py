"""Latency of several students in every runtime, all by turns: PyTorch, and what `densedist export --int8` wrote."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from densedist.common.latency import forms_of, measure_forms, print_float_layers, print_forms
from densedist.common.logging import quiet
from densedist.common.run_files import locate
from densedist.common.task import Subjects
from densedist.tasks import task_of


def main(runs: Sequence[Path], compiled: bool, file: Path | None) -> None:
    """Measure and print; write everything to file as JSON.

    Args:
        runs: folders of trained students, each measured at its usual size, with what is in its export/.
        compiled: also by torch.compile, which takes about a minute for each.

    Raises:
        UserError: weights that are not there.
    """
    with quiet():
        students = {run: _subjects(run) for run in runs}
        forms = {
            (run.name, ran): form
            for run, subjects in students.items()
            for (_, ran), form in forms_of(subjects, subjects.size, run / "export", compiled).items()
        }
        measured = measure_forms(forms)
    print_forms(measured)
    for run, subjects in students.items():
        print(run.name)
        print_float_layers(run / "export", subjects.pixels(subjects.size))
    if file:
        figures = {"torch": torch.__version__, "results": [asdict(form) for form in measured]}
        file.write_text(json.dumps(figures, indent=2) + "\n")


def _subjects(run: Path) -> Subjects:
    student = locate(str(run))
    return task_of(student.config).profile(student, "none", {}, "cpu")
