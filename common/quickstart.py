"""The whole method on the digits scenes: teacher, student alone, KD, DIST, without labels: side by side."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tabulate import tabulate

from densedist.common.report.history import read
from densedist.common.engine.launch import parser


@dataclass(frozen=True)
class Row:
    """One trained model: its metrics in percent on the test split; time in seconds, spent in training steps."""

    name: str
    parameters: int
    metrics: Mapping[str, float]
    iterations: int
    seconds_per_iteration: float
    training_seconds: float


@dataclass(frozen=True)
class Task:
    """What a task brings to the study.

    Args:
        tool: the script whose call each training is, and main, what that script calls.
        parameters: of the plain model of (config file, overrides).
        teacher, student: config files.
        kd, dist: overrides that switch on the loss, with the settings chosen on val.
        unlabeled: overrides that name images without labels.
        test: overrides that name the test split, on which nothing was chosen.
        results: the part of results.json to read, and the metrics of it that the table shows.
        draw: (rows, OUTPUT_DIR of each row by its name, PNG to write) draws the picture.
    """

    tool: str
    main: Callable[[argparse.Namespace], None]
    parameters: Callable[[str, list[str]], int]
    teacher: Path
    student: Path
    kd: Sequence[str]
    dist: Sequence[str]
    unlabeled: Sequence[str]
    test: Sequence[str]
    results: str
    metrics: Sequence[str]
    draw: Callable[[Sequence[Row], Mapping[str, Path], Path], None]


def run(task: Task, output: Path, seed: int) -> list[Row]:
    """Train and test the six models one after another; table, results.json and picture go to output."""
    folders = {
        "teacher": output / "teacher",
        "student alone": output / "alone",
        "student, KD": output / "kd",
        "student, DIST": output / "dist",
        "student alone, same time": output / "alone_same_time",
        "student, DIST, with unlabelled images": output / "dist_unlabeled",
    }
    titles = list(folders)
    learn = (
        *("DISTILL.TEACHER.CONFIG_FILE", str(folders["teacher"] / "config.yaml")),
        *("DISTILL.TEACHER.WEIGHTS", str(folders["teacher"] / "model_final.pth")),
    )

    def train(title: str, config: Path, *overrides: str) -> Row:
        print(f"\n=== {titles.index(title) + 1} of {len(titles)}: {title}", flush=True)
        return _train(task, title, folders[title], config, ["SEED", str(seed), *task.test, *overrides])

    teacher = train("teacher", task.teacher)
    alone = train("student alone", task.student)
    kd = train("student, KD", task.student, *learn, *task.kd)
    dist = train("student, DIST", task.student, *learn, *task.dist)
    # More iterations of the same schedule, until the clock shows what the distilled run took.
    longer = round(alone.iterations * dist.training_seconds / alone.training_seconds)
    same_time = train("student alone, same time", task.student, "SOLVER.MAX_ITER", str(longer))
    unlabeled = train("student, DIST, with unlabelled images", task.student, *learn, *task.dist, *task.unlabeled)

    rows = [teacher, alone, same_time, kd, dist, unlabeled]
    print("\n" + table(rows))
    (output / "results.json").write_text(json.dumps({"seed": seed, "rows": [asdict(r) for r in rows]}, indent=2) + "\n")
    task.draw(rows, folders, output / "quickstart.png")
    print(f"\nwritten: {output / 'results.json'}, {output / 'quickstart.png'}")
    return rows


def _train(task: Task, title: str, output: Path, config: Path, overrides: list[str]) -> Row:
    """What the command that is printed does."""
    argv = ["--config-file", str(config), "OUTPUT_DIR", str(output), *overrides]
    quoted = " ".join(f'"{word}"' if set(word) & set("('[") else word for word in argv)
    print(f"{task.tool} {quoted}\n", flush=True)
    task.main(parser("").parse_args(argv))
    results = json.loads((output / "results.json").read_text())[task.results]
    last = read(output)["train_seconds"][-1]
    return Row(
        name=title,
        parameters=task.parameters(str(config), overrides),
        metrics={name: results[name] for name in task.metrics},
        iterations=last.iteration,
        seconds_per_iteration=last.seconds / last.iteration,
        training_seconds=last.seconds,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = ["", "parameters", *rows[0].metrics, "iterations", "s / iteration", "training"]
    body = [
        [
            row.name,
            f"{row.parameters / 1e6:.2f} M",
            *(f"{value:.1f}" for value in row.metrics.values()),
            row.iterations,
            f"{row.seconds_per_iteration:.3f}",
            f"{row.training_seconds:.0f} s",
        ]
        for row in rows
    ]
    return tabulate(body, head, tablefmt="pipe", disable_numparse=True)
