"""A teacher's scores and what its training took, from the folder of the run that it comes from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from densedist.common.distill.average import AVERAGE
from densedist.common.report.history import History, read_history
from densedist.common.report.scores import Scores, flatten, last_scores, scores_at
from densedist.common.run_files import BEST, FINAL, config_beside

COUNTED = ("ROOT", "LABELS", "CLASSES", "IGNORED_IDS", "IGNORED_COLORS")  # keys of DATASETS that scores depend on
PLACES = ("FOLDERS", "COCO_FORMAT", "YOLO_FORMAT", "VOC_FORMAT", "ADE20K_FORMAT")  # lists of [name, …] of data sets


@dataclass(frozen=True)
class TeacherRun:
    """What is known of a teacher.

    Args:
        scores: on the student's test data; empty = not known.
        note: where the scores are from, or why they are not known.
        iterations: length of its own training; 0 = not known.
        seconds: time that its own training steps took.
    """

    scores: Scores = field(default_factory=dict)
    note: str = ""
    iterations: int = 0
    seconds: float = 0.0


def look_up(config: Mapping[str, Any], metric: str) -> TeacherRun:
    """Find what a teacher's own run says of it; nothing is evaluated.

    Args:
        config: the student's, as in its config.yaml.
        metric: the one that the best checkpoint is chosen by, as "bbox/AP".
    """
    weights = config.get("DISTILL", {}).get("TEACHER", {}).get("WEIGHTS", "")
    if weights == AVERAGE:
        return TeacherRun(note="it is the student's own average")
    found = look_up_run(config, weights, metric)
    if found.scores and (more := config["DISTILL"]["TEACHER"].get("MORE")):
        return replace(found, note=f"{found.note}, the first of {1 + len(more)} teachers")
    return found


def look_up_run(config: Mapping[str, Any], weights: str, metric: str) -> TeacherRun:
    """Find what the run of a checkpoint, or of a folder's last one, says of it; nothing is evaluated.

    Args:
        config: of the student, on whose test data the scores count.
        metric: see look_up.
    """
    own = config_beside(weights)
    if own is None:
        return TeacherRun(note="there is no run next to its weights")
    history, folder = read_history(own.parent), f'its run "{own.parent.resolve().name}"'
    try:
        theirs = yaml.safe_load(own.read_text()) or {}
    except (OSError, ValueError, yaml.YAMLError):  # of another program
        return TeacherRun(note=f"{own.name} of {folder} cannot be read")
    steps, seconds = training(history)
    # A file that is no run's final one is not what results.json is of.
    name = FINAL if Path(weights).is_dir() else Path(weights).name
    if differing := _other_data(config, theirs):
        return TeacherRun({}, f"{folder} was evaluated on other data (DATASETS.{differing})", steps, seconds)
    scores, source = _scores(own.parent, history, name, metric)
    note = f"from {source} of {folder}" if scores else f"{folder} has no score of {name}"
    return TeacherRun(scores, note, steps, seconds)


def training(history: History) -> tuple[int, float]:
    """Return the iterations of a run and the seconds in its training steps; zeros where it does not say."""
    clock = history.get("train_seconds")
    return (clock[-1].iteration, clock[-1].seconds) if clock else (0, 0.0)


def _scores(folder: Path, history: History, weights: str, metric: str) -> tuple[Scores, str]:
    """Return the scores of a checkpoint of a run, and the file that has them."""
    points = [point for point in history.get(metric, ()) if point.value == point.value]
    if weights == BEST and points:
        return scores_at(history, max(points, key=lambda point: point.value).iteration), "metrics.json"
    if weights != FINAL:
        return {}, ""
    file = folder / "results.json"
    try:
        scores = flatten(json.loads(file.read_text()))
    except (OSError, ValueError):
        scores = {}
    # After training `densedist eval` may have written the scores of other weights or data there.
    trained = last_scores(history)
    return (trained, "metrics.json") if trained and trained != scores else (scores, "results.json")


def _other_data(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Return the first key of DATASETS by which two configs are tested on different data; "" if there is none."""
    student, teacher = ({"TEST": [], **config.get("DATASETS", {})} for config in (ours, theirs))
    if not student["TEST"] or list(student["TEST"]) != list(teacher["TEST"]):
        return "TEST"
    tested = {str(name).partition("[")[0] for name in student["TEST"]}
    for key in (*COUNTED, *PLACES):
        mine, other = (node.get(key, []) for node in (student, teacher))
        if key in PLACES:
            mine, other = ([entry for entry in entries if entry[0] in tested] for entries in (mine, other))
        if mine != other:
            return key
    return ""
