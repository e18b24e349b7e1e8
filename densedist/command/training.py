"""The commands that train or evaluate: train, eval, compare, tune, quickstart."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

from densedist.command.arguments import (
    Parser,
    add_config,
    add_output,
    add_overrides,
    add_task,
    add_weights,
    comma_list,
    overrides,
    seed_list,
)


def add_train(parser: Parser) -> None:
    """train a student, with or without a teacher: densedist train det|seg --config-file F [KEY VALUE …]"""
    add_task(parser)
    add_config(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS instead")
    _add_processes(parser)
    add_overrides(parser)


def train(args: argparse.Namespace) -> None:
    run = _evaluate_in_process if args.eval_only else partial(_train_in_process, resume=args.resume)
    _in_processes(args, partial(run, args.task, args.config_file, overrides(args)))


def add_eval(parser: Parser) -> None:
    """mAP or mIoU of trained weights: densedist eval det|seg --weights W [KEY VALUE …]"""
    add_task(parser)
    add_weights(parser)
    _add_processes(parser)
    add_overrides(parser)


def evaluate(args: argparse.Namespace) -> None:
    from densedist.api import for_evaluation

    found = for_evaluation(args.weights, args.config_file, overrides(args))
    run = partial(_evaluate_in_process, trusted=found.trusted, weights=found.file, key="--weights")
    _in_processes(args, partial(run, args.task, found.config, found.overrides))


def _add_processes(parser: Parser) -> None:
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="on this machine; without GPUs processes")
    parser.add_argument("--num-machines", type=int, default=1, metavar="N")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="N", help="of this machine, from 0")
    parser.add_argument("--dist-url", default="auto", metavar="URL", help="where several machines meet")


def _in_processes(args: argparse.Namespace, run: Callable[[], None]) -> None:
    from densedist.common.engine.launch import Processes, run_in_processes

    run_in_processes(run, Processes(args.num_gpus, args.num_machines, args.machine_rank, args.dist_url))


def _train_in_process(name: str, config: str, words: Sequence[str], resume: bool) -> None:
    from densedist.common.engine.train import train
    from densedist.tasks import task_named

    task = task_named(name)
    train(task.load_config(config, words, True), task, resume)


def _evaluate_in_process(
    name: str, config: str, words: Sequence[str], trusted: bool = True, weights: str = "", key: str = "MODEL.WEIGHTS"
) -> None:
    from densedist.common.engine.train import evaluate
    from densedist.tasks import task_named

    task = task_named(name)
    cfg = task.load_config(config, words, trusted)
    evaluate(cfg, task, weights or cfg.MODEL.WEIGHTS, key)


def add_compare(parser: Parser) -> None:
    """several methods and seeds on one student: densedist compare det|seg F --methods A,B --seeds 0,1 [KEY VALUE …]"""
    parser.epilog = "Curves have as many points as there are evaluations: TEST.EVAL_PERIOD N."
    add_task(parser)
    parser.add_argument("config", help="the student's config")
    parser.add_argument(
        "--methods", type=comma_list, default="none,kd,dist", help="joined by commas, parts of one by +"
    )
    parser.add_argument("--seeds", type=seed_list, default="0,1,2", help="joined by commas")
    parser.add_argument("--unlabeled", type=comma_list, default="", help="data sets of the method unlabeled")
    parser.add_argument("--equal-time", action="store_true", help="the same time on the clock for each method")
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time; default: one a GPU, or 1")
    add_output(parser, "", "default: output/compare_TASK_CONFIG")
    add_overrides(parser)


def compare(args: argparse.Namespace) -> None:
    import torch

    from densedist import api

    api.compare(
        args.config,
        overrides(args),
        methods=args.methods,
        seeds=args.seeds,
        unlabeled=args.unlabeled,
        equal_time=args.equal_time,
        jobs=max(1, torch.cuda.device_count()) if args.jobs is None else args.jobs,
        output_dir=args.output_dir or "",
        task=args.task,
    )


def add_quickstart(parser: Parser) -> None:
    """the whole method in minutes, on data made on the spot: densedist quickstart det|seg"""
    add_task(parser)
    add_output(parser, "output/quickstart")
    parser.add_argument("--seed", type=int, default=0, metavar="S")


def quickstart(args: argparse.Namespace) -> None:
    from densedist.common.quickstart import run
    from densedist.tasks import task_named

    run(task_named(args.task), args.output_dir / args.task, args.seed)


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
