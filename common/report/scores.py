"""Scores by name, as results.json and metrics.json hold them, and in words."""

import math
from collections.abc import Mapping
from typing import Any

from densedist.common.report.history import History

GROUPS = {"bbox": "box ", "segm": "mask ", "keypoints": "keypoint "}  # of metrics; of others the group is not said

AS_GOOD = 0.05  # points below which two scores are the same in print

# In percent by name, e.g. "bbox/AP", or with several test sets "NAME/bbox/AP"; None = undefined.
Scores = Mapping[str, float | None]


def flatten(results: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    """Return {"bbox/AP": 40.1} for {"bbox": {"AP": 40.1}}; what is undefined is None."""
    flat: dict[str, float | None] = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = defined(value)
    return flat


def defined(value: float | None) -> float | None:
    """Return None for NaN, too."""
    return None if value is None or math.isnan(value) else float(value)


def in_words(name: str) -> str:
    """Return "IoU, road" for "sem_seg/IoU-road", "box AP, car" for "bbox/AP-car", "val: box AP" for "val/bbox/AP"."""
    *test_set, group, last = ["", *name.split("/")] if "/" in name else ["", name]
    score, _, of_class = last.partition("-")
    words = ", ".join(filter(None, [GROUPS.get(group, "") + score, of_class]))
    return ": ".join(filter(None, ["/".join(filter(None, test_set)), words]))


def by_class(scores: Scores, metric: str) -> dict[str, float | None]:
    """Return each class's share of a metric, e.g. of "bbox/AP" {"car": 40.1} from "bbox/AP-car"; of mIoU each IoU."""
    group, _, name = metric.rpartition("/")
    start = f"{group}/{name.removeprefix('m')}-"
    return {full.removeprefix(start): value for full, value in scores.items() if full.startswith(start)}


def class_title(metric: str) -> str:
    """Return the heading of the shares that classes have in a metric."""
    group, _, name = metric.rpartition("/")
    of_one = "/".join([group, name.removeprefix("m")])
    return f"Class by class: {in_words(of_one)}"


def overall(scores: Scores) -> dict[str, float | None]:
    """Return the scores that are of no single class."""
    return {name: value for name, value in scores.items() if "-" not in name.rpartition("/")[2]}


def sizes(scores: Scores) -> str:
    """Return what the letters behind AP stand for, as COCO has it; "" where no score has one."""
    if not any(name.rpartition("/")[2] in ("APs", "APm", "APl") for name in scores):
        return ""
    return (
        "APs, APm and APl are the AP of small, medium and large objects: their area is below 32x32 pixels, up to 96x96 "
        "pixels, and above. AP50 and AP75 count predictions as right from an overlap (IoU) of 0.5 and 0.75 on; AP is "
        "the mean over 0.5, 0.55 … 0.95."
    )


def last_scores(history: History) -> dict[str, float | None]:
    """Return the scores of the last evaluation that a run wrote to metrics.json; empty where there was none."""
    at = max((p.iteration for name, points in history.items() if _is_score(name) for p in points), default=None)
    return scores_at(history, at) if at is not None else {}


def scores_at(history: History, iteration: int) -> dict[str, float | None]:
    """Return the scores of the evaluation after so many iterations."""
    points = {name: {p.iteration: p.value for p in points} for name, points in history.items() if _is_score(name)}
    return {name: defined(of[iteration]) for name, of in points.items() if iteration in of}


def _is_score(name: str) -> bool:
    return name.split("/")[-2:-1] in (["bbox"], ["segm"], ["keypoints"], ["sem_seg"])
