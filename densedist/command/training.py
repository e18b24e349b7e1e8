"""The commands of one run: plan, train, eval."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from densedist.command.arguments import (
    Parser,
    add_config,
    add_processes,
    add_weights,
    add_words,
    check_count,
    in_processes,
)


def add_plan(parser: Parser) -> None:
    """Compute the memory and the least time of a run on cards that you do not have yet."""
    parser.epilog = "Neither data, nor trained weights, nor a GPU are needed; nothing is measured."
    add_config(parser)
    text = "kind of the cards, such as h100-80; a wrong name lists all"
    parser.add_argument("--card", required=True, metavar="C", help=text)
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="number of cards; default: %(default)s")
    text = "height and width of the images; default: as the config says"
    parser.add_argument("--size", type=int, nargs=2, action="append", default=[], metavar=("H", "W"), help=text)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument(
        "--draw", type=Path, metavar="FILE", help="also draw memory and hours by their parts to this PNG"
    )
    add_words(parser, "--config-file F --card C")
    parser.set_defaults(trains=False, reads=False)


def plan(args: argparse.Namespace) -> None:
    from densedist.common.plan.cards import find_card

    check_count(args.gpus, "--gpus")
    card = find_card(args.card)

    from densedist.common.plan.plan import make_plan
    from densedist.common.plan.report import print_plan
    from densedist.tasks import task_named

    size = (args.size[-1][0], args.size[-1][1]) if args.size else None
    made = make_plan(task_named(args.task), args.config_file, args.overrides, args.gpus, card, size)
    print_plan(made, args.json, args.draw)


def add_train(parser: Parser) -> None:
    """Train a model: a student that learns from a teacher, or any model by itself."""
    add_config(parser)
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="only evaluate MODEL.WEIGHTS; nothing is trained")
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
