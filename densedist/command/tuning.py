"""The command that searches methods and values of their keys: tune."""

import argparse

from densedist.command.arguments import (
    Parser,
    add_output,
    add_overrides,
    add_task,
    comma_list,
    overrides,
    seed_list,
)


def add_tune(parser: Parser) -> None:
    """methods and keys that suit a student best: densedist tune det|seg F --methods M@KEY=LOW..HIGH --budget SECONDS"""
    parser.epilog = "Needs Optuna: the extra tune. Runs are compared on the way at each evaluation: TEST.EVAL_PERIOD N."
    add_task(parser)
    parser.add_argument("config", help="the student's config")
    text = "as of compare, where a value may be a range, as in dist@TAU=1..8;DECAY=none,linear"
    parser.add_argument("--methods", type=comma_list, required=True, help=text)
    text = "seconds of training steps of each run"
    parser.add_argument("--budget", type=float, required=True, metavar="S", help=text)
    parser.add_argument("--trials", type=int, default=30, metavar="N", help="default: %(default)s")
    parser.add_argument("--seeds", type=seed_list, default="0", help="of each trial, joined by commas")
    parser.add_argument("--unlabeled", type=comma_list, default="", help="data sets of the method unlabeled")
    scored = parser.add_mutually_exclusive_group()
    scored.add_argument("--val", type=comma_list, default="", metavar="NAMES", help="data to choose by")
    text = "or the last share of the training data, left out of training; default: %(default)s"
    scored.add_argument("--set-aside", type=float, default=0.2, metavar="SHARE", help=text)
    parser.add_argument("--jobs", type=int, metavar="N", help="trials at a time; default: one a GPU, or 1")
    add_output(parser, "", "default: output/tune_TASK_CONFIG")
    add_overrides(parser)


def tune(args: argparse.Namespace) -> None:
    import torch

    from densedist import api

    api.tune(
        args.config,
        overrides(args),
        methods=args.methods,
        budget=args.budget,
        trials=args.trials,
        seeds=args.seeds,
        unlabeled=args.unlabeled,
        val=args.val,
        set_aside=args.set_aside,
        jobs=max(1, torch.cuda.device_count()) if args.jobs is None else args.jobs,
        output_dir=args.output_dir or "",
        task=args.task,
    )
