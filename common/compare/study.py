"""One student and one recipe under several methods and seeds, at equal iterations or at equal time."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from densedist.common.compare.checks import check_method, check_scores
from densedist.common.compare.methods import TEACHER, expand, has_labels, setting, switches
from densedist.common.compare.outcome import outcome
from densedist.common.compare.pace import seconds_per_iteration
from densedist.common.compare.picture import draw
from densedist.common.compare.report import Outcomes, markdown, results
from densedist.common.compare.teacher_labels import TeacherLabels, write_labels
from densedist.common.compare.teachers import Scores, draw_teachers, scores, teacher_table, teachers
from densedist.common.compare.workers import Run, Train, train_all
from densedist.common.data.overlap import overlaps
from densedist.common.engine.solver import stretched
from densedist.common.engine.train import train
from densedist.common.files import write_text
from densedist.common.locks import locked
from densedist.common.task import Task


@dataclass(frozen=True)
class Study:
    """What is compared.

    Args:
        task: the student's.
        config: the student's, with DISTILL.TEACHER, or these among the overrides.
        methods, seeds: every method is trained with every seed; for the grammar of methods see expand().
        output: the folder for everything.
        overrides: KEY VALUE … for every run.
        unlabeled: DATASETS.UNLABELED of the method "unlabeled"; in "labels" the teacher writes labels for them.
        equal_time: a method that takes less time an iteration than another gets more iterations, until both take
            as long as the slowest one for SOLVER.MAX_ITER.
        jobs: runs at a time.
        train: the engine's.
        pace: seconds an iteration of (task, configs by method).
    """

    task: Task
    config: str
    methods: Sequence[str]
    seeds: Sequence[int]
    output: Path
    overrides: Sequence[str] = ()
    unlabeled: Sequence[str] = ()
    equal_time: bool = False
    jobs: int = 1
    train: Train = train
    pace: Callable[[Task, Mapping[str, CfgNode]], dict[str, float]] = seconds_per_iteration

    def run(self) -> dict[str, Any]:
        """Train what has not been trained yet; then results.json, table.md and curves.png in output, and the table; and
        teachers.png, where methods name their TEACHER.

        Returns:
            what results.json holds.

        Raises:
            UserError: a wrong config, a method without a teacher or a loss, or another process that compares in output,
                before anything is trained.
        """
        cfg = self._load([])  # imports what it names, losses among them
        methods = expand(self.methods)
        check_scores(self.task, cfg)
        for method in methods:
            check_method(self.task, self._load(self._words(method, 0)), method)
        busy = (
            f"--output-dir: another process compares in {self.output}: wait for it, or name another folder; "
            "--jobs trains several students at a time"
        )
        with locked(self.output / "compare.lock", busy):
            return self._run(cfg, methods)

    def _run(self, cfg: CfgNode, methods: Sequence[str]) -> dict[str, Any]:
        labels = {method: self._labels(method) for method in methods if has_labels(method)}
        longer = self._longer(methods, labels) if self.equal_time else {}
        wanted = {
            (method, seed): self._words(method, seed, labels.get(method), longer.get(method, 1.0))
            for seed in self.seeds
            for method in methods
        }
        lengths = {run: self._load(words).SOLVER.MAX_ITER for run, words in wanted.items()}
        missing = [run for run, length in lengths.items() if outcome(self._folder(*run), length) is None]
        runs = [Run(self.config, str(self._folder(*run)), wanted[run]) for run in missing]
        train_all(self.train, self.task, runs, self.jobs)
        outcomes: dict[str, dict] = {method: {} for method in methods}
        for (method, seed), length in lengths.items():
            if done := outcome(self._folder(method, seed), length):
                added = labels[method].seconds if method in labels else 0.0
                outcomes[method][seed] = replace(done, once=done.once + added)
        folders = teachers(methods)
        of_teachers = scores(self.task, cfg, folders, self.output / "teachers.json") if folders else {}
        return self._write(outcomes, of_teachers)

    def _load(self, words: Sequence[str]) -> CfgNode:
        return self.task.load_config(self.config, [*self.overrides, *words])

    def _switches(self, method: str, overrides: Sequence[str]) -> list[str]:
        return switches(method, self.unlabeled, overrides, self._load([]).DISTILL.TEACHER)

    def _labels(self, method: str) -> TeacherLabels:
        words = self._switches(method, self.overrides)
        cfg = self.task.load_config(self.config, [*words, "DATASETS.UNLABELED", str(list(self.unlabeled))])
        return write_labels(self.task, cfg, method, self.output / "teacher_labels")

    def _longer(self, methods: Sequence[str], labels: Mapping[str, TeacherLabels]) -> Mapping[str, float]:
        """By what factor each method's iterations are more than SOLVER.MAX_ITER."""
        file = self.output / "seconds_per_iteration.json"
        paces = json.loads(file.read_text()) if file.is_file() else {}
        if missing := [method for method in methods if method not in paces]:
            # Beside one whose pace is known, so that both are of the same minutes.
            beside = [method for method in methods if method in paces][:1]
            paced = {method: self._load(self._words(method, 0, labels.get(method))) for method in [*beside, *missing]}
            taken = self.pace(self.task, paced)
            scale = paces[beside[0]] / taken[beside[0]] if beside else 1.0
            paces |= {method: scale * taken[method] for method in missing}
            write_text(file, json.dumps(paces, indent=2) + "\n")
        slowest = max(paces[method] for method in methods)
        return {method: slowest / paces[method] for method in methods}

    def _words(self, method: str, seed: int, labels: TeacherLabels | None = None, longer: float = 1.0) -> list[str]:
        words = self._switches(method, ["SEED", str(seed), *self.overrides])
        words += labels.words if labels else []  # they add to what the overrides say
        if (folder := setting(method, TEACHER)) and (cache := self._load(words).DISTILL.TEACHER.CACHE):
            words += ["DISTILL.TEACHER.CACHE", str(Path(cache) / _file_name(folder))]  # one is of one teacher
        if longer == 1:
            return words
        return [*words, *stretched(self._load(words).SOLVER, longer)]

    def _folder(self, method: str, seed: int) -> Path:
        return self.output / _file_name(method) / f"seed{seed}"

    def _shared(self) -> list[str]:
        """Which test images are among those of training, those without labels included."""
        words = ["DATASETS.UNLABELED", str(list(self.unlabeled))] if self.unlabeled else []
        return overlaps(self._load(words), self.task.images)

    def _write(self, outcomes: Outcomes, of_teachers: Scores) -> dict[str, Any]:
        rule = (
            "At equal time in training steps: cheaper methods have more iterations."
            if self.equal_time
            else "At equal iterations."
        )
        shared = self._shared()
        text = markdown(outcomes, rule) + "".join(f"\n- {line}" for line in shared)
        if of_teachers:
            text += f"\n\n{teacher_table(outcomes, of_teachers)}"
            draw_teachers(outcomes, of_teachers, self.output / "teachers.png")
        found = results(outcomes) | ({"teachers": dict(of_teachers)} if of_teachers else {})
        found |= {"shared_images": shared} if shared else {}
        write_text(self.output / "results.json", json.dumps(found, indent=2) + "\n")
        write_text(self.output / "table.md", text + "\n")
        draw(outcomes, self.output / "curves.png")
        print("\n" + text)
        return found


def _file_name(method: str) -> str:
    return method.replace("/", "_")
