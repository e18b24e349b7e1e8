"""Accuracy against latency: teacher, students and exports as points of a picture, from scores that are on the disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from densedist.common.config import saved
from densedist.common.errors import UserError
from densedist.common.int8 import RECORD
from densedist.common.latency import COMPILED, PYTORCH, Form
from densedist.common.report.scores import in_words
from densedist.common.report.teacher import look_up_run
from densedist.common.task import Subjects
from densedist.common.timing import Latency

COLORS = ("#2563eb", "#dc2626", "#64748b", "#d97706", "#059669", "#7c3aed")
MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Point:
    """A model in what runs it.

    Args:
        model: its name, as "teacher".
        ran: what runs it, as "onnxruntime, INT8".
        score: in percent.
        latency: of one image.
    """

    model: str
    ran: str
    score: float
    latency: Latency


def points_of(subjects: Subjects, forms: Sequence[Form], exported: Path) -> tuple[list[Point], list[str]]:
    """Join latencies with the scores that are on the disk; nothing is evaluated.

    A model's score in PyTorch is its run's, what INT8 and the runtimes keep of the student's is in its int8.json. Only
    scores on the student's test data count.

    Returns:
        the points; what has none, with the reason.
    """
    config = yaml.safe_load(saved(subjects.cfg))
    runs = {x.name: look_up_run(config, x.weights.file, subjects.metric) for x in subjects.models}
    scores = {(name, ran): run.scores for name, run in runs.items() for ran in (PYTORCH, COMPILED)}
    reasons = {name: run.note for name, run in runs.items()}
    student = subjects.models[-1].name
    record = exported / RECORD
    said = json.loads(record.read_text()) if record.is_file() else {}
    if said.get("test") == list(config["DATASETS"]["TEST"]):
        scores |= {(student, row["name"]): row["scores"] for row in said["rows"]}
    points, missing = [], []
    for form in forms:
        value = scores.get((form.model, form.ran), {}).get(subjects.metric)
        if value is not None:
            points.append(Point(form.model, form.ran, value, form.seconds[1]))
        else:
            of_form = reasons[form.model] if form.ran in (PYTORCH, COMPILED) else f"not in {record}, or of other data"
            missing.append(f"{form.model}, {form.ran} ({of_form})")
    return points, missing


def draw_tradeoff(points: Sequence[Point], metric: str, title: str, file: Path) -> None:
    """Draw accuracy against the median latency, with a line to the 95th percentile.

    Args:
        metric: what the scores are, e.g. "bbox/AP".
        title: says what was measured, and where.

    Raises:
        UserError: fewer than two points.
    """
    if len(points) < 2:
        raise UserError(
            "--picture: fewer than two scores are known: train or evaluate the student, its teacher and those --beside "
            "with DATASETS.TEST, and export the student with --int8"
        )
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.add_subplot()
    models, forms = (list(dict.fromkeys(names)) for names in ([x.model for x in points], [x.ran for x in points]))
    for point in points:
        color = COLORS[models.index(point.model) % len(COLORS)]
        median, late = 1e3 * point.latency.median, 1e3 * point.latency.p95
        axis.plot([median, late], [point.score] * 2, color=color, linewidth=1, alpha=0.5)
        marker = MARKERS[forms.index(point.ran) % len(MARKERS)]
        label = f"{point.model}, {point.ran}: {point.score:.1f}, {point.latency} ms"
        axis.plot(median, point.score, marker, color=color, markersize=8, linestyle="none", label=label)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("ms for an image in one thread: median, line to 95 %")
    axis.set_ylabel(f"{in_words(metric)}, percent")
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", fontsize=8, ncols=2, frameon=False)
    figure.savefig(file, dpi=110)
