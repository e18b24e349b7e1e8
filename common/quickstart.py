"""The whole method on the digits scenes: teacher, student alone, KD, DIST, and with unlabeled images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tabulate import tabulate

from densedist.common.engine.train import train
from densedist.common.report.history import read_history
from densedist.common.run_files import CONFIG, FINAL
from densedist.common.shell import command
from densedist.common.task import Task

TEACHER, ALONE, SAME_TIME = "teacher", "student alone", "student alone, same time"
KD, DIST, UNLABELED = "student, KD", "student, DIST", "student, DIST, with unlabeled images"
FOLDERS = {TEACHER: "teacher", ALONE: "alone", KD: "kd", DIST: "dist", SAME_TIME: "alone_same_time"}
FOLDERS |= {UNLABELED: "dist_unlabeled"}


@dataclass(frozen=True)
class TrainedRow:
    """One trained model: its metrics in percent on the test split; time in seconds, spent in training steps."""

    name: str
    parameters: int
    metrics: Mapping[str, float]
    iterations: int
    seconds_per_iteration: float
    training_seconds: float


def run(task: Task, output: Path, seed: int) -> list[TrainedRow]:
    """Train and test the six models one after another; table, results.json and picture go to output."""
    chosen = task.demonstration
    folders = {name: output / folder for name, folder in FOLDERS.items()}
    learn = (
        *("DISTILL.TEACHER.CONFIG_FILE", str(folders[TEACHER] / CONFIG)),
        *("DISTILL.TEACHER.WEIGHTS", str(folders[TEACHER] / FINAL)),
    )

    def train_row(name: str, config: str, *overrides: str) -> TrainedRow:
        print(f"\n=== {list(FOLDERS).index(name) + 1} of {len(FOLDERS)}: {name}", flush=True)
        return _train(task, name, folders[name], config, ["SEED", str(seed), *chosen.test, *overrides])

    teacher = train_row(TEACHER, chosen.teacher)
    alone = train_row(ALONE, chosen.student)
    kd = train_row(KD, chosen.student, *learn, *chosen.kd)
    dist = train_row(DIST, chosen.student, *learn, *chosen.dist)
    # More iterations of the same schedule, until the clock shows what the distilled run took.
    longer = round(alone.iterations * dist.training_seconds / alone.training_seconds)
    same_time = train_row(SAME_TIME, chosen.student, "SOLVER.MAX_ITER", str(longer))
    unlabeled = train_row(UNLABELED, chosen.student, *learn, *chosen.dist, *chosen.unlabeled)

    rows = [teacher, alone, same_time, kd, dist, unlabeled]
    print("\n" + table(rows))
    (output / "results.json").write_text(json.dumps({"seed": seed, "rows": [asdict(r) for r in rows]}, indent=2) + "\n")
    chosen.draw({row.name: row.metrics for row in rows}, folders, output / "quickstart.png")
    print(f"\nwritten: {output / 'results.json'}, {output / 'quickstart.png'}")
    return rows


def _train(task: Task, name: str, output: Path, config: str, overrides: list[str]) -> TrainedRow:
    """Train as the printed command would."""
    words = ["OUTPUT_DIR", str(output), *overrides]
    print(command("train", task.name, "--config-file", config, *words) + "\n", flush=True)
    cfg = task.load_config(config, words)
    train(cfg, task)
    results = next(iter(json.loads((output / "results.json").read_text()).values()))
    last = read_history(output)["train_seconds"][-1]
    student = task.plain(task.load_model(cfg, str(output / FINAL), "--weights"), cfg)
    return TrainedRow(
        name=name,
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        metrics={metric: results[metric] for metric in task.demonstration.metrics},
        iterations=last.iteration,
        seconds_per_iteration=last.seconds / last.iteration,
        training_seconds=last.seconds,
    )


def table(rows: Sequence[TrainedRow]) -> str:
    """Return the rows as a Markdown table."""
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
