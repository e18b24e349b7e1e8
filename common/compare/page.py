"""The page of a comparison: report.html, as a run has one, over its methods."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from densedist.common.compare.methods import NONE
from densedist.common.compare.outcome import Gain, gain
from densedist.common.compare.report import (
    BEFORE,
    PERCENT,
    Outcomes,
    curves,
    extremes,
    interval,
    method_columns,
    seed_columns,
    takes_time_before,
    values,
    verdict,
    verdicts,
)
from densedist.common.report.heading import listed, of_task, on_data
from densedist.common.report.history import read_history
from densedist.common.report.page import Bar, Bars, Page, Table, write_page
from densedist.common.report.panels import Gallery
from densedist.common.report.plots import svg
from densedist.common.report.repeat import configured, this_command, versions
from densedist.common.report.run import WEAK_TEACHER, how_to_get_curves, is_short
from densedist.common.report.scores import AS_GOOD, Scores, by_class, class_title, last_scores
from densedist.common.report.teacher import TeacherRun
from densedist.common.run_files import CONFIG
from densedist.common.words import duration

# By method, by seed.
Folders = Mapping[str, Mapping[int, Path]]


def write_comparison(
    file: Path,
    outcomes: Outcomes,
    folders: Folders,
    rule: str,
    notes: Sequence[str],
    teachers: Mapping[str, TeacherRun],
    gallery: Gallery | None,
    texts: Mapping[str, str],
    made_by: str = "",
) -> None:
    """Write the page.

    Args:
        file: report.html.
        folders: of the runs.
        rule: by what the methods are made equal.
        notes: what else has to be said, a sentence each.
        teachers: by name.
        gallery: test images as the methods of extremes() see them.
        texts: folded at the end, by title.
        made_by: the command to repeat it, where this process is none of DenseDIST's commands.
    """
    seeds = sorted({seed for of_seeds in outcomes.values() for seed in of_seeds})
    config = _config(folders)
    full = next((o.metric for of_seeds in outcomes.values() for o in of_seeds.values()), "")
    said = f"{len(outcomes)} method{'s'[: len(outcomes) > 1]}, {len(seeds)} seed{'s'[: len(seeds) > 1]}"
    page = Page(
        title=_title(list(outcomes), config),
        subtitle=f"Comparison {file.parent.resolve().name}{configured()}: {said}. {rule}",
        verdict=verdict(outcomes),
        notes=[
            *_short(outcomes, config),
            *_of_teachers(teachers, full),
            *_weak(outcomes, teachers, full),
            *_curves_of_one_point(outcomes, config),
            *notes,
        ],
        scores=_scores(outcomes, teachers, full),
        gallery=gallery,
        classes=_classes(outcomes, folders, full),
        tables={"Each seed": _seeds(outcomes)} if len(seeds) > 1 else {},
        curves={title: svg(drawing) for title, drawing in curves(outcomes).items()} if seeds else {},
        costs=_costs(outcomes, teachers),
        command=this_command() or made_by,
        facts={"seeds": ", ".join(map(str, seeds)), "versions": versions()},
        texts=texts,
    )
    write_page(page, file)


def _title(methods: Sequence[str], config: Mapping[str, Any]) -> str:
    compared = f"{listed(methods)} compared" if len(methods) > 1 else listed(methods)
    return f"{of_task(config)}: {compared}{on_data(config)}" if config else compared


def _config(folders: Folders) -> Mapping[str, Any]:
    """Return the config of the first run that has one: all share their data and schedule."""
    files = (folder / CONFIG for of_seeds in folders.values() for folder in of_seeds.values())
    there = next((file for file in files if file.is_file()), None)
    return yaml.safe_load(there.read_text()) if there else {}


def _short(outcomes: Outcomes, config: Mapping[str, Any]) -> list[str]:
    lengths = [outcome.iterations for of_seeds in outcomes.values() for outcome in of_seeds.values()]
    if lengths and is_short(min(lengths), config):
        return [f"With {min(lengths)} iterations the runs are too short to judge a method."]
    return []


def _curves_of_one_point(outcomes: Outcomes, config: Mapping[str, Any]) -> list[str]:
    """Say how to get curves where the runs were evaluated at their ends only."""
    runs = [outcome for of_seeds in outcomes.values() for outcome in of_seeds.values()]
    if not runs or any(len(outcome.curve) > 1 for outcome in runs):
        return []
    period = config.get("TEST", {}).get("EVAL_PERIOD", 0)
    return [f"The runs were evaluated at their ends only. {how_to_get_curves(period, runs[0].iterations)}."]


def _of_teachers(teachers: Mapping[str, TeacherRun], metric: str) -> list[str]:
    lines = []
    for name, teacher in teachers.items():
        if (score := teacher.scores.get(metric)) is None:
            lines.append(f"The score of the {name} is not known: {teacher.note}.")
        else:
            lines.append(f"The {name} scores {score:.1f} ({teacher.note}).")
    return lines


def _weak(outcomes: Outcomes, teachers: Mapping[str, TeacherRun], metric: str) -> list[str]:
    """Say what it means that the student alone is better than a teacher, unless it gains from it nevertheless."""
    alone, pair = _mean(values(outcomes.get(NONE, {}))), extremes(outcomes)
    gained = gain(*(values(outcomes[method]) for method in reversed(pair))) if pair else None
    if alone is None or (gained and gained.is_significant and gained.mean > 0):
        return []
    return [
        WEAK_TEACHER.format(teacher=name, student=f"the student alone ({NONE})")
        for name, teacher in teachers.items()
        if (score := teacher.scores.get(metric)) is not None and alone - score >= AS_GOOD
    ]


def _scores(outcomes: Outcomes, teachers: Mapping[str, TeacherRun], metric: str) -> Table:
    head, rows = method_columns(outcomes)
    above = [
        [name, "not known" if (score := teacher.scores.get(metric)) is None else f"{score:.1f}"]
        for name, teacher in teachers.items()
    ]
    full = [[*row, *[""] * (len(head) - len(row))] for row in [*above, *rows]]
    return Table(head, full, "\n".join(f"{line}." for line in verdicts(outcomes)))


def _seeds(outcomes: Outcomes) -> Table:
    head, rows = seed_columns(outcomes)
    return Table(["method", *head], [[method, *row] for method, row in zip(outcomes, rows, strict=True)])


def _classes(outcomes: Outcomes, folders: Folders, metric: str) -> Bars | None:
    """Return the gain of the best method in each class; None without a method to compare it with."""
    if (pair := extremes(outcomes)) is None:
        return None
    before, after = pair
    seeds = [seed for seed in outcomes[before] if seed in outcomes[after]]
    scores = {method: {seed: _at_end(folders[method][seed]) for seed in seeds} for method in pair}
    names = dict.fromkeys(
        name for of_seeds in scores.values() for s in of_seeds.values() for name in by_class(s, metric)
    )
    bars = []
    for name in names:
        first, last = _paired(*(_of_class(scores[method], metric, name) for method in pair))
        difference = gain(last, first)
        points = None if difference is None else difference.mean
        bars.append(Bar(name, _mean(first), _mean(last), points, _interval(difference)))
    chance = (
        f" {PERCENT} intervals over the seeds, separately for each class." if any(bar.interval for bar in bars) else ""
    )
    return Bars(class_title(metric), before, after, bars, f"The best class first.{chance}")


def _at_end(folder: Path) -> Scores:
    return last_scores(read_history(folder))


def _of_class(scores: Mapping[int, Scores], metric: str, name: str) -> dict[int, float]:
    found = {seed: by_class(of_run, metric).get(name) for seed, of_run in scores.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _paired(first: dict[int, float], last: dict[int, float]) -> tuple[dict[int, float], dict[int, float]]:
    """Return the scores of the seeds that have both, so that the means differ as the pairs do; all where none has."""
    both = first.keys() & last.keys()
    return ({s: first[s] for s in both}, {s: last[s] for s in both}) if both else (first, last)


def _mean(numbers: Mapping[int, float]) -> float | None:
    return statistics.mean(numbers.values()) if numbers else None


def _interval(difference: Gain | None) -> str:
    return interval(difference) if difference else ""


def _costs(outcomes: Outcomes, teachers: Mapping[str, TeacherRun]) -> Table:
    before = takes_time_before(outcomes)
    head = ["", "iterations of a run", "training of a run", *([f"{BEFORE}, for all runs"] if before else []), "runs"]
    rows = []
    for name, teacher in teachers.items():
        known = [str(teacher.iterations), f"{teacher.seconds:.0f} s"] if teacher.iterations else ["not known"] * 2
        rows.append([f"{name}, its own training", *known, *([""] if before else []), "1"])
    total = 0.0
    for method, of_seeds in outcomes.items():
        if not of_seeds:
            continue
        seconds = [outcome.seconds for outcome in of_seeds.values()]
        shared = max(outcome.once for outcome in of_seeds.values())
        total += sum(seconds) + shared
        iterations = statistics.mean(outcome.iterations for outcome in of_seeds.values())
        cells = [f"{iterations:.0f}", f"{statistics.mean(seconds):.0f} s", *([f"{shared:.0f} s"] if before else [])]
        rows.append([method, *cells, str(len(seconds))])
    note = f"Training is the time in training steps. All runs together took {duration(total)}"
    note += ", without the teacher's own training." if teachers else "."
    if before:
        note += f" {BEFORE.capitalize()}: time that a method takes to write its teacher's labels, or to fill a cache."
    return Table(head, rows, note)
