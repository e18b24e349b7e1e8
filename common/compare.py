"""One student, one recipe, several distillation methods and seeds: trained one after another, then a table."""

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from detectron2.config import CfgNode
from tabulate import tabulate

from common.distiller import LOSSES, is_on
from common.errors import UserError
from common.launch import parser

OFF = tuple(word for loss in LOSSES for word in (f"DISTILL.{loss}.WEIGHT", "0.0"))
# What switches a method on, with weight 1; "+" joins them.
METHODS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "kd": ("DISTILL.KD.WEIGHT", "1.0"),
    "dist": ("DISTILL.DIST.WEIGHT", "1.0"),
    "inter": ("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.GAMMA", "0.0"),
    "intra": ("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.BETA", "0.0"),
    "mimic": ("DISTILL.MIMIC.WEIGHT", "1.0"),
    "rkd": ("DISTILL.RKD.WEIGHT", "1.0"),
    "cwd": ("DISTILL.CWD.WEIGHT", "1.0"),
    "pkd": ("DISTILL.PKD.WEIGHT", "1.0"),
    "attention": ("DISTILL.ATTENTION.WEIGHT", "1.0"),
    "unlabeled": (),  # with DATASETS.UNLABELED as --unlabeled says
}


def switches(method: str, unlabeled: Sequence[str]) -> list[str]:
    """The overrides that train with a method, e.g. "dist+mimic".

    Raises:
        UserError: an unknown part, or "unlabeled" without data.
    """
    words = list(OFF)
    for part in method.split("+"):
        if part not in METHODS:
            raise UserError(f"--methods: there is no {part}; want {', '.join(METHODS)}, joined by + if need be")
        words += METHODS[part]
        if part == "unlabeled":
            if not unlabeled:
                raise UserError("--methods: unlabeled needs --unlabeled with the names of the data")
            words += ["DATASETS.UNLABELED", str(list(unlabeled))]
    return words


def run(
    train: Callable[[argparse.Namespace], None],
    load_config: Callable[[str, list[str]], CfgNode],
    config: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    output: Path,
    overrides: Sequence[str] = (),
    unlabeled: Sequence[str] = (),
    only: tuple[int, int] = (0, 1),
) -> None:
    """Train every method with every seed that has no results in output yet; write table.md and results.json.

    Args:
        train: what train_det or train_seg calls, of its parsed arguments.
        load_config: the task's, of a file and overrides.
        config: the student's, with DISTILL.TEACHER, or these among the overrides.
        unlabeled: DATASETS.UNLABELED of the method "unlabeled".
        only: (k, n): of the trainings the k-th of every n, so that n processes share the work.

    Raises:
        UserError: a wrong config, or a method without a teacher or a loss, before anything is trained.
    """
    trainings = [(method, seed) for seed in seeds for method in methods]
    commands = {(m, s): [*switches(m, unlabeled), "SEED", str(s), *overrides] for m, s in trainings}
    for (method, _), words in commands.items():
        if method != "none" and not is_on(load_config(config, words).DISTILL):
            raise UserError(f"--methods: {method} has no teacher or no loss: set DISTILL.TEACHER, or join a loss to it")
    for method, seed in trainings[only[0] :: only[1]]:
        folder = output / method / f"seed{seed}"
        if (folder / "results.json").is_file():
            continue
        print(f"\n=== {method}, seed {seed}", flush=True)
        argv = ["--config-file", config, "--resume", "OUTPUT_DIR", str(folder), *commands[method, seed]]
        train(parser("").parse_args(argv))
    summary = summarize(output, methods, seeds)
    (output / "results.json").write_text(json.dumps(summary, indent=2) + "\n")
    (output / "table.md").write_text(table(summary) + "\n")
    print("\n" + table(summary))


def summarize(output: Path, methods: Sequence[str], seeds: Sequence[int]) -> dict[str, dict[str, float]]:
    """For each method {"seed<s>": its first metric in percent} of those trained so far."""
    summary: dict[str, dict[str, float]] = {}
    for method in methods:
        files = {f"seed{seed}": output / method / f"seed{seed}" / "results.json" for seed in seeds}
        found = {seed: json.loads(file.read_text()) for seed, file in files.items() if file.is_file()}
        # {"bbox": {"AP": …, …}}: the first group's first number is the one that its field compares by
        summary[method] = {seed: next(iter(next(iter(r.values())).values())) for seed, r in found.items()}
    return summary


def table(summary: Mapping[str, Mapping[str, float]]) -> str:
    """Mean ± standard deviation of each method over its seeds, and the seeds, in Markdown."""
    seeds = list(dict.fromkeys(seed for values in summary.values() for seed in values))
    body = []
    for method, values in summary.items():
        numbers = list(values.values())
        mean = f"{statistics.mean(numbers):.1f}" if numbers else ""
        spread = f" ± {statistics.stdev(numbers):.1f}" if len(numbers) > 1 else ""
        body.append([method, mean + spread, *(f"{values[s]:.1f}" if s in values else "" for s in seeds)])
    return tabulate(body, ["method", "mean", *seeds], tablefmt="pipe", disable_numparse=True)
