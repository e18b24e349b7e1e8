"""A search in a folder: trials until there are as many as wanted, then the report."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from tqdm import tqdm

from densedist.common.compare.checks import check_method, refuse_seed
from densedist.common.compare.labels import (
    check_labels,
    labeling_of,
    refuse_other_labels,
    settings_of,
    undone,
    write_labels,
)
from densedist.common.compare.methods import has_labels, joined
from densedist.common.compare.pace import seconds_per_iteration
from densedist.common.compare.records import FILES
from densedist.common.compare.workers import each
from densedist.common.distill.sources import pseudo_labeled_images
from densedist.common.engine.launch import check_gpus
from densedist.common.engine.train import train
from densedist.common.errors import UserError
from densedist.common.extras import require
from densedist.common.fingerprint import Fingerprints
from densedist.common.labeling import Labeling
from densedist.common.logging import on_terminal
from densedist.common.task import Task
from densedist.common.tune.attempt import Attempt, Train
from densedist.common.tune.data import Validation
from densedist.common.tune.recipe import Recipe
from densedist.common.tune.report import write
from densedist.common.tune.rows import line, rows
from densedist.common.tune.space import Space
from densedist.common.tune.trials import (
    SETTINGS,
    STUDY,
    WHY,
    Going,
    Trials,
    known_paces,
    preparing,
    refuse_fewer,
)

logger = logging.getLogger(__name__)
FAILURES = 3  # one after another end the search


@dataclass(frozen=True)
class Search:
    """A search to be made.

    Args:
        task: the student's.
        config: the student's, with DISTILL.TEACHER, or these among the overrides.
        methods: as of `densedist compare`, joined by commas; a value may be a range LOW..HIGH.
        budget: seconds of training steps that each run has.
        output: the folder for everything.
        trials: how many choices are tried.
        seeds: seeds of the runs of each trial.
        overrides: KEY VALUE … for every run.
        unlabeled: DATASETS.UNLABELED of the method "unlabeled"; in "labels" the teacher writes labels for them, once.
        validation: what choices are scored on.
        jobs: trials at a time.
        train: the engine's.
        pace: seconds an iteration of (task, configs by method).
    """

    task: Task
    config: str
    methods: Sequence[str]
    budget: float
    output: Path
    trials: int = 30
    seeds: Sequence[int] = (0,)
    overrides: Sequence[str] = ()
    unlabeled: Sequence[str] = ()
    validation: Validation = field(default_factory=Validation)
    jobs: int = 1
    train: Train = train
    pace: Callable[[Task, Mapping[str, CfgNode]], dict[str, float]] = seconds_per_iteration

    def run(self) -> dict[str, Any]:
        """Try what has not been tried yet; then table.md, trials.json, search.png and best.yaml in output.

        Returns:
            "method", "keys" and "value" of the best trial, its "number", and where best.yaml is as "config".

        Raises:
            UserError: what is wrong with options, config, data or methods, before anything is trained; the reason of a
                trial, where one after another fails.
        """
        require(["optuna"], "tune", "densedist tune")
        if self.trials < 1:
            raise UserError(f"--trials is {self.trials}: want 1 or more")
        if self.budget <= 0:
            raise UserError(f"--budget is {self.budget:g}: want seconds of training steps, above 0")
        if not self.seeds:
            raise UserError("--seeds is empty: name one or more, e.g. 0,1")
        refuse_seed(self.overrides)
        check_gpus(self.jobs, "--jobs")
        recipe = Recipe(self.task, self.config, self.overrides, self.unlabeled)
        cfg = recipe.load()  # imports what it names, losses among them
        space = Space.of(self.methods, cfg, self.task.best)
        self.validation.check(cfg)
        recipe = replace(recipe, added={m: undone(cfg, self.task.grammar.keys(), m) for m in space.methods})
        for method in space.methods:
            corners = [recipe.of(corner) for corner in space.corners(method)]  # which refuses wrong values
            check_method(self.task, corners[0], method)
            for corner in corners:
                pseudo_labeled_images(corner)
        recipe = replace(recipe, data=self.validation.overrides(self.task, cfg, recipe.load))
        firsts = {method: recipe.of(space.first(method)) for method in space.methods}
        fingerprints = Fingerprints(self.task, self.output / FILES)
        labelings = self._labelings(space, recipe, fingerprints)
        about = self._about(firsts, labelings, fingerprints)
        if (self.output / STUDY).is_file():
            with preparing(self.output):
                known_paces(self.output, about, self.task.grammar.keys())  # which refuses the folder of another search
                refuse_fewer(self.output, self.trials)
        for method, (_, labeling) in labelings.items():
            self.validation.refuse_labeled(self.task, firsts[method], labeling.images.values())
            refuse_other_labels(self.task, labeling)
            check_labels(self.task, labeling)
        for of_data in {str(first.DATASETS): first for first in firsts.values()}.values():
            self.task.check_data(of_data)
        with preparing(self.output):
            for method, (own, labeling) in labelings.items():
                labels = write_labels(self.task, own, labeling)
                recipe = replace(recipe, added={**recipe.added, method: [*recipe.added[method], *labels.words]})
            firsts |= {method: recipe.of(space.first(method)) for method in labelings}
            paces = known_paces(self.output, about, self.task.grammar.keys()) or self.pace(self.task, firsts)
            recipe = replace(recipe, lengths=self._lengths(paces))
            trials = Trials(self.output)
            fingerprints.keep()
            trials.claim(about, paces)
        each(partial(self._work, trials, space, recipe), range(self.jobs), self.jobs)
        scored = firsts[next(iter(space.methods))]
        return write(trials, recipe, self.output, self.task.metric(scored), self._chosen_on(cfg, scored))

    def _labelings(
        self, space: Space, recipe: Recipe, fingerprints: Fingerprints
    ) -> dict[str, tuple[CfgNode, Labeling]]:
        """Return for each method that trains on its teacher's labels a config and the labeling."""
        folder, unlabeled = (
            (self.output / "teacher_labels").absolute(),
            ["DATASETS.UNLABELED", str(list(self.unlabeled))],
        )
        result = {}
        for method in filter(has_labels, space.methods):
            cfgs = [recipe.load([*recipe.words(corner), *unlabeled, *recipe.data]) for corner in space.corners(method)]
            found = [(own, labeling_of(self.task, own, method, folder, fingerprints)) for own in cfgs]
            # Labels with the variance of boxes are good for choices that do not ask for it, too.
            result[method] = next((both for both in found if both[1].box_variance), found[0])
        return result

    def _about(
        self,
        firsts: Mapping[str, CfgNode],
        labelings: Mapping[str, tuple[CfgNode, Labeling]],
        fingerprints: Fingerprints,
    ) -> dict[str, Any]:
        """Return the settings that a folder's search is identified by (see known_paces).

        Args:
            firsts: the config of each method with its first values.
        """
        settings = {method: fingerprints.of(cfg) for method, cfg in firsts.items()}
        settings |= {m: settings_of(labeling, settings[m]) for m, (_, labeling) in labelings.items()}
        return {
            "methods": ",".join(joined(self.methods, self.task.best)),
            "budget": self.budget,
            "seeds": list(self.seeds),
            "unlabeled": list(self.unlabeled),
            "data": self.validation.in_words(),
            SETTINGS: settings,
        }

    def _chosen_on(self, cfg: CfgNode, scored: CfgNode) -> str:
        notes = list(filter(None, [self.validation.note(cfg), *self.validation.shared(self.task, cfg, scored)]))
        if len(sets := scored.DATASETS.TEST) > 1:
            notes.append(f"the value is the mean over {', '.join(sets)}")
        seeds = ", ".join(map(str, self.seeds))
        runs = f"runs of {self.budget:g} s of training steps, mean over seeds {seeds}"
        return f"{self.validation.in_words()}; {runs}" + "".join(f". {note}" for note in notes)

    def _lengths(self, paces: Mapping[str, float]) -> dict[str, int]:
        """Return each method's iterations within the budget, by its pace with its first values."""
        for method, pace in paces.items():
            if pace > self.budget:
                raise UserError(f"--budget is {self.budget:g} seconds, but a step of {method} takes {pace:.3g}")
        return {method: round(self.budget / pace) for method, pace in paces.items()}

    def _work(self, trials: Trials, space: Space, recipe: Recipe, _: int) -> None:
        """Work on one trial after another in this process."""
        is_shown = self.jobs == 1 and on_terminal()
        with tqdm(total=self.trials, unit="trial", dynamic_ncols=True, disable=not is_shown) as bar:
            while True:
                bar.update(len(trials.ended()) - bar.n)
                with trials.next(self.trials) as going:
                    if going is None:
                        return
                    self._try(trials, going, space, recipe)

    def _try(self, trials: Trials, going: Going, space: Space, recipe: Recipe) -> None:
        attempt = Attempt(going, space.suggest(going.trial), recipe, self.seeds, self.train)
        tqdm.write(f"\n=== {going.folder}")
        try:
            trials.end(going, attempt.run(trials.ended()))
        except UserError as error:
            trials.fail(going)
            if all(WHY in trial.user_attrs for trial in trials.ended()[-FAILURES:]):
                raise
            said = f"trial {going.folder.name} failed: {error}"
        else:
            said = line(rows(trials.ended()), int(going.folder.name))
        tqdm.write(said)  # above the bar, if there is one
        attempt.drop_checkpoints()
