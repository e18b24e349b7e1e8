"""The functions that train a student many times: to compare methods, and to search them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densedist.common.compare.study import Study
from densedist.common.task import Task
from densedist.common.tune.data import Validation
from densedist.common.tune.search import Search
from densedist.overrides import Overrides, as_words
from densedist.tasks import task_named, task_of


def compare(
    config: str,
    overrides: Overrides = (),
    *,
    methods: Sequence[str] = ("none", "kd", "dist"),
    seeds: Sequence[int] = (0, 1, 2),
    unlabeled: Sequence[str] = (),
    equal_time: bool = False,
    jobs: int = 1,
    output_dir: str | Path = "",
    task: str = "",
) -> dict[str, Any]:
    """Train one student by several methods and seeds; what has been trained before is not repeated.

    Args:
        config, task: see train.
        methods: names of losses in small letters, joined by "+"; none, inter, intra, unlabeled, labels; with keys
            after "@", TEACHER among them (see common.compare.methods).
        unlabeled: data sets of the methods "unlabeled" and "labels".
        equal_time: the same time for each method, not the same iterations.
        jobs: runs at a time.
        output_dir: for the runs, results.json, table.md and curves.png; default: output/compare_TASK_CONFIG.

    Returns:
        what results.json holds: for each method mean, standard deviation, gain over none, and each seed.

    Raises:
        UserError: a wrong config or method, before anything is trained.
    """
    side = task_named(task) if task else task_of(config)
    output = _output(output_dir, "compare", side, config)
    study = Study(
        side, config, methods, seeds, output, as_words(overrides), unlabeled, equal_time=equal_time, jobs=jobs
    )
    return study.run()


def tune(
    config: str,
    overrides: Overrides = (),
    *,
    methods: Sequence[str],
    budget: float,
    trials: int = 30,
    seeds: Sequence[int] = (0,),
    unlabeled: Sequence[str] = (),
    val: Sequence[str] = (),
    set_aside: float = 0.2,
    jobs: int = 1,
    output_dir: str | Path = "",
    task: str = "",
) -> dict[str, Any]:
    """Search the method, and the values of its keys, that suit a student best in a given time, with Optuna.

    Args:
        config, task: see train.
        methods: as of compare; a value of a key may be a range, "dist@TAU=1..8".
        budget: seconds of training steps of each run.
        trials: how many choices are tried; those that are finished in output_dir count.
        seeds: of each trial, whose value is the mean over them.
        unlabeled: data sets of the method "unlabeled".
        val: data sets or splits to choose by, never test data.
        set_aside: without val, the share of the training data to choose by, which is left out of training.
        jobs: trials at a time.
        output_dir: for the runs, study.db, table.md, trials.json, search.png and best.yaml; default:
            output/tune_TASK_CONFIG.

    Returns:
        of the best trial "number", "method", "keys" by their whole names, and "value" in percent; as "config" the
        path of best.yaml, which trains it on all of the config's data.

    Raises:
        UserError: a wrong config, method, data set or option, before anything is trained; Optuna is not installed.
    """
    side = task_named(task) if task else task_of(config)
    chosen_by, output = Validation(tuple(val), set_aside), _output(output_dir, "tune", side, config)
    search = Search(
        side, config, methods, budget, output, trials, seeds, as_words(overrides), unlabeled, chosen_by, jobs
    )
    return search.run()


def _output(given: str | Path, study: str, task: Task, config: str) -> Path:
    """Where a study's files go: by default each task and config has a folder of its own."""
    return Path(given or f"output/{study}_{task.name}_{Path(config).stem}")
