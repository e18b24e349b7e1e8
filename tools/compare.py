"""Compare distillation methods on one student: compare.py det|seg CONFIG --methods A,B --seeds 0,1 [KEY VALUE …]."""

import argparse
from importlib import import_module
from pathlib import Path

from common.compare import run
from common.launch import guarded


def main(args: argparse.Namespace) -> None:
    part, parts = map(int, args.part.split("/"))
    task = import_module(f"{args.task}.training")
    run(
        task.main,
        task.load_config,
        args.config,
        args.methods.split(","),
        [int(seed) for seed in args.seeds.split(",")],
        args.output_dir,
        args.opts,
        [name for name in args.unlabeled.split(",") if name],
        (part, parts),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["det", "seg"])
    parser.add_argument("config", help="the student's config")
    parser.add_argument("--methods", default="none,kd,dist", help="names joined by commas, parts of one by +")
    parser.add_argument("--seeds", default="0,1,2", help="joined by commas")
    parser.add_argument("--unlabeled", default="", help="data sets of the method unlabeled, joined by commas")
    parser.add_argument("--output-dir", type=Path, default=Path("output/compare"), metavar="D")
    parser.add_argument("--part", default="0/1", metavar="K/N", help="only the K-th of every N trainings")
    parser.add_argument("opts", nargs="*", help="KEY VALUE pairs for every training")
    guarded(main, parser.parse_intermixed_args())
