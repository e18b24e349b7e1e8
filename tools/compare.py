"""Compare distillation methods on one student: compare.py det|seg CONFIG --methods A,B --seeds 0,1 [KEY VALUE …]."""

import argparse
from importlib import import_module
from pathlib import Path

import torch

from densedist.common.compare.study import Study
from densedist.common.engine.launch import guarded


def main(args: argparse.Namespace) -> None:
    task = import_module(f"{args.task}.training")
    Study(
        train=task.main,
        load_config=task.load_config,
        config=args.config,
        methods=args.methods.split(","),
        seeds=[int(seed) for seed in args.seeds.split(",")],
        output=args.output_dir,
        overrides=args.opts,
        unlabeled=[name for name in args.unlabeled.split(",") if name],
        equal_time=args.equal_time,
        jobs=args.jobs or max(1, torch.cuda.device_count()),
    ).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Curves have as many points as there are evaluations: TEST.EVAL_PERIOD N."
    )
    parser.add_argument("task", choices=["det", "seg"])
    parser.add_argument("config", help="the student's config")
    parser.add_argument("--methods", default="none,kd,dist", help="names joined by commas, parts of one by +")
    parser.add_argument("--seeds", default="0,1,2", help="joined by commas")
    parser.add_argument("--unlabeled", default="", help="data sets of the method unlabeled, joined by commas")
    parser.add_argument("--equal-time", action="store_true", help="the same time on the clock for each method")
    parser.add_argument("--jobs", type=int, metavar="N", help="trainings at a time; default: one a GPU, or 1")
    parser.add_argument("--output-dir", type=Path, default=Path("output/compare"), metavar="D")
    parser.add_argument("opts", nargs="*", help="KEY VALUE pairs for every training")
    guarded(main, parser.parse_intermixed_args())
