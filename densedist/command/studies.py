"""The commands of many runs: compare, tune, quickstart."""

import argparse

from densedist.command.arguments import (
    Parser,
    add_output,
    add_study,
    add_task,
    add_words,
    comma_list,
    jobs,
)
from densedist.common.extras import how_to_install, require


def add_compare(parser: Parser) -> None:
    """Train a student with several methods and seeds, and compare the gains."""
    parser.epilog = "TEST.EVAL_PERIOD N evaluates every N iterations, which gives the curves their points."
    text = "methods to compare: none, losses in small letters, unlabeled, labels, or best, which is recommended for "
    text += "--unlabeled; + joins the parts of one method, as in dist+labels; default: %(default)s"
    parser.add_argument("--methods", type=comma_list, default="none,kd,dist", metavar="A,B", help=text)
    add_study(parser, seeds="0,1,2")
    parser.add_argument(
        "--equal-time", action="store_true", help="train all methods for equal time instead of equal iterations"
    )
    add_output(parser, "", "output/compare_TASK_CONFIG")
    add_words(parser, "--config-file F", config=True)


def compare(args: argparse.Namespace) -> None:
    from densedist import api

    api.compare(
        args.config_file,
        args.overrides,
        methods=args.methods,
        seeds=args.seeds,
        unlabeled=args.unlabeled,
        equal_time=args.equal_time,
        jobs=jobs(args),
        output_dir=args.output_dir or "",
        task=args.task,
    )


def add_tune(parser: Parser) -> None:
    """Search for the method and the key values that suit a student best."""
    parser.epilog = f"Needs Optuna: {how_to_install('tune')}. With TEST.EVAL_PERIOD N, poor runs are ended early."
    text = "methods as in compare; values may be ranges, as in dist@TAU=1..8;DECAY=none,linear"
    parser.add_argument("--methods", type=comma_list, required=True, metavar="A,B", help=text)
    text = "time that each run trains, in seconds"
    parser.add_argument("--budget", type=float, required=True, metavar="S", help=text)
    parser.add_argument("--trials", type=int, default=30, metavar="N", help="number of trials; default: %(default)s")
    add_study(parser, seeds="0")
    scored = parser.add_mutually_exclusive_group()
    scored.add_argument(
        "--val", type=comma_list, default="", metavar="A,B", help="data sets to score on, apart from test data"
    )
    text = "without --val, share of the training data to score on, at its end; default: %(default)s"
    scored.add_argument("--set-aside", type=float, default=0.2, metavar="SHARE", help=text)
    add_output(parser, "", "output/tune_TASK_CONFIG")
    add_words(parser, "--config-file F --methods A,B --budget S", config=True)
    parser.set_defaults(first=lambda args: require(["optuna"], "tune", "densedist tune"))


def tune(args: argparse.Namespace) -> None:
    from densedist import api

    api.tune(
        args.config_file,
        args.overrides,
        methods=args.methods,
        budget=args.budget,
        trials=args.trials,
        seeds=args.seeds,
        unlabeled=args.unlabeled,
        val=args.val,
        set_aside=args.set_aside,
        jobs=jobs(args),
        output_dir=args.output_dir or "",
        task=args.task,
    )


def add_quickstart(parser: Parser) -> None:
    """Run the whole method in minutes, on generated data."""
    add_task(parser)
    add_output(parser, "output/quickstart")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of all random numbers; default: %(default)s"
    )


def quickstart(args: argparse.Namespace) -> None:
    from densedist.common.quickstart import run
    from densedist.tasks import task_named

    run(task_named(args.task), args.output_dir / args.task, args.seed)
