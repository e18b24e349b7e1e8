"""The commands of one run: train, eval."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

from densedist.command.arguments import (
    Parser,
    add_config,
    add_processes,
    add_weights,
    add_words,
    in_processes,
)


def add_train(parser: Parser) -> None:
    """Train a student with its teacher, or any model without one."""
    add_config(parser)
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS instead")
    add_processes(parser)
    add_words(parser, "--config-file F")


def train(args: argparse.Namespace) -> None:
    from densedist import api

    if args.eval_only:
        run: Callable[[], object] = partial(_evaluate_start, args.task, args.config_file, args.overrides)
    else:
        run = partial(api.train, args.config_file, args.overrides, resume=args.resume, task=args.task)
    in_processes(args, run)


def add_eval(parser: Parser) -> None:
    """Compute the AP or mIoU of trained weights, overall and for each class."""
    add_weights(parser)
    add_processes(parser)
    add_words(parser, "--weights W")


def evaluate(args: argparse.Namespace) -> None:
    from densedist import api

    run = partial(api.evaluate, args.weights, args.overrides, config=args.config_file, task=args.task)
    in_processes(args, run)


def _evaluate_start(name: str, config: str, words: Sequence[str]) -> None:
    """Evaluate what a student starts from."""
    from densedist.common.engine.train import evaluate
    from densedist.tasks import task_named

    task = task_named(name)
    cfg = task.load_config(config, words)
    evaluate(cfg, task, cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS")
