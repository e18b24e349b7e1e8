"""What a command does before it imports PyTorch: it checks what it was given, and says what it works on."""

import argparse
import sys
from itertools import chain
from pathlib import Path

from densedist import early
from densedist.command.arguments import Parser, beside, check_count
from densedist.command.guard import speaks
from densedist.common.beside import locate_beside
from densedist.common.config.files import find_config
from densedist.common.errors import UserError
from densedist.common.foreign.described import description_of
from densedist.common.foreign.kinds import kind_alone, refuse_missing_package
from densedist.common.locks import refuse_unwritable
from densedist.common.nearest import did_you_mean_path
from densedist.common.run_files import Weights, locate
from densedist.tasks import IN_WORDS, name_of, short_name

WITHOUT_TEACHER = ("", "none")


def check_first(args: argparse.Namespace) -> None:
    """Refuse what is mistyped, and fill in the task that the config says.

    Raises:
        UserError: naming the option or key, and what is like it.
    """
    if hasattr(args, "folder") and not (args.folder.is_dir() or (hasattr(args, "form") and args.folder.is_file())):
        raise UserError(f"FOLDER: there is no folder {args.folder}{did_you_mean_path(args.folder)}")
    if getattr(args, "output_dir", None):
        refuse_unwritable(args.output_dir, "--output-dir")
    if hasattr(args, "words"):
        _check_words(args)
    if hasattr(args, "first") and speaks():  # another process may already write what this one would find
        args.first(args)


def _check_words(args: argparse.Namespace) -> None:
    """Check config, weights and keys, and fill in the task."""
    if hasattr(args, "images"):
        check_count(args.images, "--images")
    if hasattr(args, "calibration_images"):
        check_count(args.calibration_images, "--calibration-images")
    for side in [*chain.from_iterable(getattr(args, "size", ())), *(getattr(args, "fixed", None) or ())]:
        check_count(side, "--size")
    if getattr(args, "weights", None) == []:  # a student's teachers label
        if not args.config_file:
            Parser().error("name teachers by --weights, or by --config-file a student whose teacher labels")
        named = bool(args.files)  # then DATASETS.UNLABELED is not read
        args.task = early.check_training(args.task, args.config_file, args.overrides, trains=False, reads=not named)
    elif hasattr(args, "weights"):
        given = [args.weights] if isinstance(args.weights, str) else args.weights
        args.found = _locate(given, args)
        tasks = [early.check_trained(args.task, found) for found in args.found]
        args.task = tasks[0]
        if getattr(args, "teacher", "") not in WITHOUT_TEACHER:
            locate(args.teacher, key="--teacher")
        locate_beside(beside(args) if hasattr(args, "beside") else {})
    elif args.takes_files:  # a file of another project
        if args.config_file:
            find_config(args.config_file, "--config-file")
        args.task = args.task or (name_of(args.config_file) if args.config_file else "")
        if not args.task:
            Parser().error("the task is missing: give det or seg")
    elif getattr(args, "eval_only", False) and args.config_file:  # what it was trained on may be gone
        found = Weights("", find_config(args.config_file, "--config-file"), True, overrides=args.overrides)
        args.task = early.check_trained(args.task, found)
    else:
        methods = getattr(args, "methods", [])
        named_elsewhere = methods and all(method == "none" or "TEACHER=" in method for method in methods)
        learns = args.trains and not named_elsewhere
        args.task = early.check_training(args.task, args.config_file, args.overrides, args.trains, learns, args.reads)
        if methods:
            early.check_methods(args.task, args.config_file, args.overrides, methods, args.unlabeled)
        if args.trains and not hasattr(args, "output_dir"):
            early.check_output(args.task, args.config_file, args.overrides, args.resume)


def _locate(given: list[str], args: argparse.Namespace) -> list[Weights]:
    """Find weights with their configs; with a config they may be no file, as those of a catalog are."""
    if args.config_file and not all(Path(weights).exists() for weights in given):
        config = find_config(args.config_file, "--config-file")
        return [Weights(weights, config, True, overrides=args.overrides) for weights in given]
    return [_one(weights, args.config_file).under(*args.overrides) for weights in given]


def _one(weights: str, config: str) -> Weights:
    """Find weights with their config; those of another project, and what was exported, need none."""
    if not config and (said := description_of(weights)):
        return Weights(weights, "", True, overrides=["TASK", short_name(said["task"])])
    if not config and kind_alone(weights):
        refuse_missing_package(weights, "--weights")
        return Weights(weights, "", True)
    return locate(weights, config)


def say(command: str, args: argparse.Namespace) -> None:
    """Say what a command works on; the import of PyTorch that comes next takes seconds."""
    if "torch" in sys.modules or command == "keys" or not speaks():
        return
    weights = " ".join(found.file for found in getattr(args, "found", ()))
    subject = " ".join(filter(None, [weights, getattr(args, "config_file", "")]))
    about = ", ".join(filter(None, [subject, IN_WORDS.get(getattr(args, "task", ""), "")]))
    words = "; ".join(filter(None, [about, "loading PyTorch …"]))
    print(f"densedist {command}: {words}", file=sys.stderr, flush=True)
