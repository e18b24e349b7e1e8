"""The whole method on the digits scenes: teacher, student alone, KD and DIST, measured and drawn."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from detectron2.modeling import build_model
from tabulate import tabulate

from common.launch import parser
from det.config import without_distillation
from det.picture import draw
from det.training import load_config, main

CONFIGS = Path(__file__).parents[1] / "configs" / "det" / "digits"
TEACHER = CONFIGS / "cascade_mask_rcnn_r10t.yaml"
STUDENT = CONFIGS / "faster_rcnn_r10_quarter.yaml"
# Chosen on digits_val, each among the values that the README lists.
KD = ("DISTILL.DIST.WEIGHT", "0.0", "DISTILL.KD.WEIGHT", "1.0", "DISTILL.KD.TAU", "3.0")
DIST = ("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.TAU", "6.0")
# Nothing was chosen on this split but the number of labels (README).
TEST = ("DATASETS.TEST", "('digits_test',)")


@dataclass(frozen=True)
class Row:
    """One trained model: AP in percent on the test split; time in seconds, spent in training steps."""

    name: str
    parameters: int
    AP: float
    AP50: float
    AP75: float
    iterations: int
    seconds_per_iteration: float
    training_seconds: float


def run(output: Path, seed: int) -> list[Row]:
    """Train and test the five models one after another; table, results.json and picture go to output."""
    folder = {name: output / name for name in ("teacher", "alone", "kd", "dist", "alone_same_time")}
    teacher = (
        *("DISTILL.TEACHER.CONFIG_FILE", str(folder["teacher"] / "config.yaml")),
        *("DISTILL.TEACHER.WEIGHTS", str(folder["teacher"] / "model_final.pth")),
    )

    def train(step: int, name: str, title: str, config: Path, *overrides: str) -> Row:
        print(f"\n=== {step} of 5: {title}", flush=True)
        return _train(title, folder[name], config, ["SEED", str(seed), *TEST, *overrides])

    strong = train(1, "teacher", "teacher", TEACHER)
    alone = train(2, "alone", "student alone", STUDENT)
    kd = train(3, "kd", "student, KD", STUDENT, *teacher, *KD)
    dist = train(4, "dist", "student, DIST", STUDENT, *teacher, *DIST)
    # More iterations of the same schedule, until the clock shows what the distilled run took.
    longer = round(alone.iterations * dist.training_seconds / alone.training_seconds)
    same = train(5, "alone_same_time", "student alone, same time", STUDENT, "SOLVER.MAX_ITER", str(longer))

    rows = [strong, alone, same, kd, dist]
    print("\n" + table(rows))
    (output / "results.json").write_text(json.dumps({"seed": seed, "rows": [asdict(r) for r in rows]}, indent=2) + "\n")
    shown = {"teacher": folder["teacher"], "student alone": folder["alone"], "student, DIST": folder["dist"]}
    bars = {row.name: (row.AP, row.AP50) for row in rows}
    draw(bars, shown, output / "quickstart.png")
    print(f"\nwritten: {output / 'results.json'}, {output / 'quickstart.png'}")
    return rows


def _train(title: str, output: Path, config: Path, overrides: Sequence[str]) -> Row:
    """What the train_det command that is printed does."""
    argv = ["--config-file", str(config), "OUTPUT_DIR", str(output), *overrides]
    quoted = " ".join(f'"{word}"' if set(word) & set("('") else word for word in argv)
    print(f"tools/train_det.py {quoted}\n", flush=True)
    main(parser("").parse_args(argv))
    model = build_model(without_distillation(load_config(str(config), list(overrides))))
    box = json.loads((output / "results.json").read_text())["bbox"]
    iterations, seconds = _clock(output)
    return Row(
        name=title,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        AP=box["AP"],
        AP50=box["AP50"],
        AP75=box["AP75"],
        iterations=iterations,
        seconds_per_iteration=seconds / iterations,
        training_seconds=seconds,
    )


def _clock(output: Path) -> tuple[int, float]:
    """Iterations done and seconds spent in them, from the last line of metrics.json that has them."""
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    last = [line for line in lines if "train_seconds" in line][-1]
    return last["iteration"] + 1, last["train_seconds"]


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = ["", "parameters", "AP", "AP50", "AP75", "iterations", "s / iteration", "training"]
    body = [
        [
            row.name,
            f"{row.parameters / 1e6:.2f} M",
            *(f"{ap:.1f}" for ap in (row.AP, row.AP50, row.AP75)),
            row.iterations,
            f"{row.seconds_per_iteration:.3f}",
            f"{row.training_seconds:.0f} s",
        ]
        for row in rows
    ]
    return tabulate(body, head, tablefmt="pipe", disable_numparse=True)
