"""One student and one recipe under several methods and seeds, at equal iterations or at equal time."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from densedist.common.compare.checks import check_method, check_scores, refuse_seed
from densedist.common.compare.labels import (
    TeacherLabels,
    check_labels,
    labeling_of,
    refuse_other_labels,
    settings_of,
    undone,
    write_labels,
)
from densedist.common.compare.methods import (
    TEACHER,
    as_given,
    expand,
    folder_name,
    has_best,
    has_labels,
    setting,
    switches,
)
from densedist.common.compare.names import BEST
from densedist.common.compare.outcome import outcome
from densedist.common.compare.pace import seconds_per_iteration
from densedist.common.compare.page import Folders, write_comparison
from densedist.common.compare.records import FILES, ITERATIONS, PACES, Numbers, begin_run, refuse_another_run
from densedist.common.compare.report import Outcomes, draw, equal_time, extremes, markdown, results
from densedist.common.compare.teachers import Scores, TeacherScores, draw_teachers, teacher_table, teachers
from densedist.common.compare.workers import Run, Train, train_all
from densedist.common.config import saved
from densedist.common.data.overlap import overlaps
from densedist.common.engine.launch import check_gpus
from densedist.common.engine.solver import stretched
from densedist.common.engine.train import train
from densedist.common.errors import UserError
from densedist.common.files import write_text
from densedist.common.fingerprint import Fingerprint, Fingerprints
from densedist.common.labeling import Labeling
from densedist.common.locks import locked
from densedist.common.report.history import read_history
from densedist.common.report.panels import Gallery
from densedist.common.report.teacher import TeacherRun, look_up, training
from densedist.common.run_files import CONFIG, FINAL, Weights, holds_run
from densedist.common.shell import in_lines
from densedist.common.task import Task, Trainee

logger = logging.getLogger(__name__)
CACHE = "DISTILL.TEACHER.CACHE"


@dataclass(frozen=True)
class Plan:
    """What a comparison needs, as far as it is known before anything is written.

    Args:
        cfgs, settings: for a run of each method with the seed 0.
        labelings: for each method that trains on its teacher's labels, the config and the labeling.
        fingerprints: what files hold.
    """

    methods: Sequence[str]
    cfgs: Mapping[str, CfgNode]
    settings: Mapping[str, Fingerprint]
    labelings: Mapping[str, tuple[CfgNode, Labeling]]
    of_teachers: TeacherScores
    fingerprints: Fingerprints

    @property
    def lengths(self) -> dict[str, int]:
        """Return the iterations of a run of each method; empty for equal time."""
        return {method: cfg.SOLVER.MAX_ITER for method, cfg in self.cfgs.items()}

    def of_run(self, method: str, seed: int, length: int | None) -> Fingerprint:
        """Return the settings of a run; length is its iterations, None where they are not known yet."""
        settings = self.settings[method] | {"SEED": str(seed)}
        return settings if length is None else settings | {ITERATIONS: str(length)}


@dataclass(frozen=True)
class Study:
    """A comparison to be made.

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
        """Train what has not been trained yet; then results.json, table.md, curves.png and report.html in output; and
        teachers.png, where methods name their TEACHER.

        Returns:
            what results.json holds.

        Raises:
            UserError: a wrong config, a method without a teacher or a loss, a folder with runs of other settings, or
                another process that compares in output, before anything is trained or written.
        """
        refuse_seed(self.overrides)
        check_gpus(self.jobs, "--jobs")
        cfg = self._without_method  # imports what it names, losses among them
        methods = expand(self.methods, self.task.best)
        check_scores(self.task, cfg)
        cfgs = {method: self._load(self._words(method, 0)) for method in methods}
        same_data = len({str(own.DATASETS) for own in (cfg, *cfgs.values())}) == 1 and not any(map(has_labels, methods))
        for method in methods:
            # Once more where others differ: they have put other data of the same names into the catalog.
            check_method(self.task, cfgs[method] if same_data else self._load(self._words(method, 0)), method)
        plan = self._plan(cfg, cfgs, same_data)
        self._refuse_others(plan)
        self._check_missing(plan)
        busy = (
            f"--output-dir: another process compares in {self.output}: wait for it, or name another folder; "
            "--jobs trains several students at a time"
        )
        with locked(self.output / "compare.lock", busy):
            self._refuse_others(plan)  # another process may have written meanwhile
            return self._run(plan)

    def _plan(self, cfg: CfgNode, cfgs: dict[str, CfgNode], same_data: bool) -> Plan:
        """Plan the comparison.

        Args:
            cfg: the student's without a method.
            cfgs: for a run of each method with the seed 0.
            same_data: they are about the same data.
        """
        methods = list(cfgs)
        fingerprints = Fingerprints(self.task, self.output / FILES)
        labelings = {}
        for method in filter(has_labels, methods):
            words = [*self._switches(method, self.overrides), "DATASETS.UNLABELED", str(list(self.unlabeled))]
            own = self.task.load_config(self.config, words)
            labelings[method] = own, labeling_of(self.task, own, method, self.output / "teacher_labels", fingerprints)
        settings = {}
        for method in methods:
            if not same_data:  # as above
                cfgs[method] = self._load(self._words(method, 0))
            settings[method] = fingerprints.of(cfgs[method])
            if method in labelings:
                settings[method] = settings_of(labelings[method][1], settings[method])
        of_teachers = TeacherScores(self.task, cfg, teachers(methods), self.output, fingerprints)
        return Plan(methods, cfgs, settings, labelings, of_teachers, fingerprints)

    def _refuse_others(self, plan: Plan) -> None:
        """Make sure that all that the folder holds is of this comparison."""
        for method, seed in self._runs(plan):
            length = None if self.equal_time else plan.lengths[method]
            refuse_another_run(self._folder(method, seed), plan.of_run(method, seed, length), self.task.grammar.keys())
        if self.equal_time:
            Numbers(self.output / PACES, "seconds", self.task.grammar.keys()).refuse_unknown(plan.methods)
        plan.of_teachers.refuse_others()
        for _, labeling in plan.labelings.values():
            refuse_other_labels(self.task, labeling)

    def _check_missing(self, plan: Plan) -> None:
        """Make sure that what is missing has the data and the teachers that it needs."""
        for _, labeling in plan.labelings.values():
            check_labels(self.task, labeling)
        missing = [method for method, seed in self._runs(plan) if not holds_run(self._folder(method, seed))]
        for method in {str(plan.cfgs[method].DATASETS): method for method in missing}.values():
            self.task.check_data(self._load(self._words(method, 0)))

    def _run(self, plan: Plan) -> dict[str, Any]:
        labels = {m: write_labels(self.task, *labeling) for m, labeling in plan.labelings.items()}
        paces = self._paces(plan, labels) if self.equal_time else {}
        slowest = max(paces.values(), default=1.0)
        longer = {method: stretched(plan.cfgs[method].SOLVER, slowest / pace) for method, pace in paces.items()}
        lengths = {method: int(longer[method][1]) for method in longer} or plan.lengths
        runs = {run: plan.of_run(*run, lengths[run[0]]) for run in self._runs(plan)}
        for run, settings in runs.items():
            refuse_another_run(self._folder(*run), settings, self.task.grammar.keys())
        if paces:
            Numbers(self.output / PACES, "seconds", self.task.grammar.keys()).keep(paces, plan.settings)
        plan.fingerprints.keep()
        missing = [run for run in runs if outcome(self._folder(*run), lengths[run[0]]) is None]
        for run in missing:
            begin_run(self._folder(*run), runs[run])
        words = {(m, seed): [*self._words(m, seed, labels.get(m)), *longer.get(m, [])] for m, seed in missing}
        train_all(
            self.train, self.task, [Run(self.config, str(self._folder(*run)), words[run]) for run in missing], self.jobs
        )
        outcomes: dict[str, dict] = {method: {} for method in plan.methods}
        for method, seed in runs:
            if done := outcome(self._folder(method, seed), lengths[method]):
                added = labels[method].seconds if method in labels else 0.0
                outcomes[method][seed] = replace(done, once=done.once + added)
        return self._write(outcomes, plan.of_teachers.evaluate(), [of_method.remark for of_method in labels.values()])

    def _runs(self, plan: Plan) -> list[tuple[str, int]]:
        return [(method, seed) for seed in dict.fromkeys(self.seeds) for method in plan.methods]

    def _load(self, words: Sequence[str]) -> CfgNode:
        return self.task.load_config(self.config, [*self.overrides, *words])

    def _switches(self, method: str, overrides: Sequence[str]) -> list[str]:
        return switches(method, self.unlabeled, overrides, self.task.grammar.keys())

    @cached_property
    def _without_method(self) -> CfgNode:
        """Load the student's config, which each method's begins with."""
        return self._load([])

    def _paces(self, plan: Plan, labels: Mapping[str, TeacherLabels]) -> dict[str, float]:
        """Return the seconds an iteration of each method takes: as known, or measured."""
        paces = Numbers(self.output / PACES, "seconds", self.task.grammar.keys()).known(plan.settings)
        if missing := [method for method in plan.methods if method not in paces]:
            # Together with one whose pace is known, so that both are measured in the same minutes.
            reference = list(paces)[:1]
            paced = {
                method: self._load(self._words(method, 0, labels.get(method))) for method in [*reference, *missing]
            }
            taken = self.pace(self.task, paced)
            scale = paces[reference[0]] / taken[reference[0]] if reference else 1.0
            paces |= {method: scale * taken[method] for method in missing}
        return paces

    def _words(self, method: str, seed: int, labels: TeacherLabels | None = None) -> list[str]:
        words = self._switches(method, ["SEED", str(seed), *self.overrides])
        words += undone(self._without_method, self.task.grammar.keys(), method)
        words += labels.words if labels else []  # they add to what the overrides say
        if (folder := setting(method, TEACHER)) and (cache := self._cache(words)):
            words += [CACHE, str(Path(cache) / folder_name(folder))]  # a cache is of one teacher
        return words

    def _cache(self, words: Sequence[str]) -> str:
        """Return DISTILL.TEACHER.CACHE under overrides; data sets are not looked up for that."""
        cfg = self._without_method.clone()
        cfg.defrost()
        for key, value in zip(words[::2], words[1::2], strict=True):
            if key == CACHE:
                cfg.merge_from_list([key, value])
        cache: str = cfg.DISTILL.TEACHER.CACHE
        return cache

    def _folder(self, method: str, seed: int) -> Path:
        return self.output / folder_name(method) / f"seed{seed}"

    def _shared(self) -> list[str]:
        """Return which test images are also among the training images, unlabeled ones included."""
        words = ["DATASETS.UNLABELED", str(list(self.unlabeled))] if self.unlabeled else []
        return overlaps(self._load(words), self.task.images)

    def _write(self, outcomes: Outcomes, of_teachers: Scores, of_labels: Sequence[str]) -> dict[str, Any]:
        shared = self._shared()
        found = results(outcomes) | ({"teachers": dict(of_teachers)} if of_teachers else {})
        found |= {"shared_images": shared} if shared else {}
        write_text(self.output / "results.json", json.dumps(found, indent=2) + "\n")
        folders = {m: {seed: self._folder(m, seed) for seed in of_seeds} for m, of_seeds in outcomes.items()}
        # What people read has names as they gave them; results.json and folders have whole ones, with all settings.
        names = as_given(self.methods, self.task.best)
        named = {names[method]: of_seeds for method, of_seeds in outcomes.items()}
        best = f"{BEST} stands for {self.task.best}, which was recommended before this comparison"
        notes = [best] if has_best(self.methods) else []
        notes += [*dict.fromkeys(filter(None, of_labels)), *shared]
        rule = equal_time(named) if self.equal_time else "At equal iterations."
        text = markdown(named, rule) + "".join(f"\n- {line}" for line in notes)
        if of_teachers:
            text += f"\n\n{teacher_table(named, of_teachers)}"
            draw_teachers(named, of_teachers, self.output / "teachers.png")
        write_text(self.output / "table.md", text + "\n")
        draw(named, self.output / "curves.png")
        gallery = self._before_and_after(outcomes, folders)
        self._write_page(
            named, {names[m]: of_seeds for m, of_seeds in folders.items()}, of_teachers, [rule, *notes], gallery, text
        )
        print(f"\n{text}\n\nreport   {self.output / 'report.html'}")
        return found

    def _write_page(
        self,
        outcomes: Outcomes,
        folders: Folders,
        of_teachers: Scores,
        said: Sequence[str],
        gallery: Gallery | None,
        text: str,
    ) -> None:
        rule, *notes = said
        full = next((o.metric for of_seeds in outcomes.values() for o in of_seeds.values()), "")
        config = saved(self._without_method)
        known = {
            f"teacher {folder}": TeacherRun(
                {full: score}, "evaluated for this comparison", *training(read_history(Path(folder)))
            )
            for folder, score in of_teachers.items()
        }
        if self._without_method.DISTILL.TEACHER.WEIGHTS:
            known = {"teacher": look_up(yaml.safe_load(config), full), **known}
        texts = {"The table in Markdown": text, "All keys of the student's config": config}
        page, sentences = self.output / "report.html", [f"{note}." for note in notes]
        write_comparison(page, outcomes, folders, rule, sentences, known, gallery, texts, self._command())

    def _command(self) -> str:
        """Return the command that makes this comparison; from Python none was typed."""
        words = ["densedist", "compare", self.task.name, "--config-file", self.config]
        words += ["--methods", ",".join(self.methods), "--seeds", ",".join(map(str, self.seeds))]
        words += ["--unlabeled", ",".join(self.unlabeled)] if self.unlabeled else []
        words += ["--equal-time"] if self.equal_time else []
        return in_lines([*words, "--output-dir", str(self.output), *self.overrides])

    def _before_and_after(self, outcomes: Outcomes, folders: Folders) -> Gallery | None:
        """Draw test images as the best method and the one that it is compared with see them; None without the files."""
        if (pair := extremes(outcomes)) is None:
            return None
        before, after = pair
        runs = [(folders[before][seed], folders[after][seed]) for seed in folders[before] if seed in folders[after]]
        there = [run for run in runs if all((folder / FINAL).is_file() for folder in run)]
        if not there:
            return None
        first, last = there[0]
        cfg, names = self._load(self._words(after, 0)), as_given(self.methods, self.task.best)
        if not cfg.TEST.EXAMPLES:
            return None
        before, after = names[before], names[after]
        try:
            model = self.task.load_model(cfg, str(last / FINAL), f"{after}'s weights")
            beside = {before: Weights(str(first / FINAL), str(first / CONFIG), True, f"{before}'s weights")}
            return self.task.draw_examples(cfg, Trainee(model, model), self.output / "examples.png", beside, after)
        except UserError as error:  # of a picture: the numbers are written
            logger.warning(f"no pictures: {error}")
            return None
