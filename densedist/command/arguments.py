"""Options that commands share, each declared once, and the words between them: task, files and KEY VALUE pairs."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from glob import has_magic
from pathlib import Path
from typing import NoReturn

from densedist.common.run_names import FINAL

CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.\w+)*")
TASKS = ("det", "seg")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def add_task(parser: Parser) -> None:
    parser.add_argument("task", choices=TASKS, help="detection or segmentation")


def add_config(parser: Parser, what: str = "config", default: str = "") -> None:
    """Add --config-file. `what` and `default` say in words which config it names, and which one is the default."""
    text = f"{what}: a path, the name of a packaged config, or a name in Detectron2's model zoo"
    text += f"; default: {default}" if default else ""
    parser.add_argument("--config-file", default="", metavar="F", help=text)


def add_words(parser: Parser, needs: str, files: str = "", task: bool = True, config: bool = False) -> None:
    """Add the words of a command that works on a config, in this order: task, config, files, KEY VALUE pairs.

    sort_words sorts them.

    Args:
        needs: the options that it does not do without, for its usage.
        files: the files that it takes, for its usage; "" = none.
        task: it takes the task, which the config says, too.
        config: it takes the config without --config-file, too, as before there was that option.
    """
    words = ["[det|seg]" if task else "", needs, files, "[options]", "[KEY VALUE ...]"]
    parser.usage = " ".join([parser.prog, *filter(None, words)])
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.set_defaults(task="", trains=True, reads=True, takes_task=task, takes_config=config, takes_files=bool(files))
    text = "import what IMPORTS names, also in a config that you did not name yourself"
    parser.add_argument("--trust-imports", action="store_true", help=text)


def add_weights(parser: Parser) -> None:
    text = f"checkpoint; OUTPUT_DIR of a run, which stands for its {FINAL}; or folder of SMP's save_pretrained"
    parser.add_argument("--weights", required=True, metavar="W", help=text)
    add_config(parser, default="config.yaml next to the weights")


def add_teacher(parser: Parser) -> None:
    text = "the teacher's weights, or none; default: DISTILL.TEACHER of the config"
    parser.add_argument("--teacher", default="", metavar="WT", help=text)


def add_beside(parser: Parser) -> None:
    text = "weights of another model with the same classes, drawn next to this one; repeatable"
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=W", help=text)


def add_output(parser: Parser, default: str, in_words: str = "%(default)s") -> None:
    """Add --output-dir. Where `default` is empty, the function that the command calls has one: `in_words`."""
    text = f"folder to write to; default: {in_words}"
    parser.add_argument("--output-dir", type=Path, default=default or None, metavar="D", help=text)


def add_images(parser: Parser, default: int, note: str) -> None:
    parser.add_argument("--images", type=int, default=default, metavar="N", help=f"{note}; default: %(default)s")


def add_score(parser: Parser, default: str, what: str = "boxes of a detector") -> None:
    text = f"leave out {what} with a lower score; default: {default}"
    parser.add_argument("--score-threshold", type=float, metavar="S", help=text)


def add_processes(parser: Parser) -> None:
    text = "number of GPUs to use on this machine; without a GPU, number of processes; default: %(default)s"
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help=text)
    parser.add_argument("--num-machines", type=int, default=1, metavar="N", help="number of machines")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="N", help="rank of this machine, from 0")
    parser.add_argument(
        "--dist-url", default="auto", metavar="URL", help="address where the machines meet, tcp://HOST:PORT"
    )


def in_processes(args: argparse.Namespace, run: Callable[[], object]) -> None:
    """Run a function in the processes that the options of add_processes name."""
    from densedist.common.engine.launch import Processes, run_in_processes

    run_in_processes(run, Processes(args.num_gpus, args.num_machines, args.machine_rank, args.dist_url))


def add_study(parser: Parser, seeds: str) -> None:
    """Add what a comparison and a search have in common: a config, seeds, data without labels, and runs at a time."""
    add_config(parser, "the student's config")
    parser.add_argument(
        "--seeds", type=seed_list, default=seeds, metavar="A,B", help="seeds of the runs; default: %(default)s"
    )
    text = "folders or data sets without labels, for the methods unlabeled, labels and best"
    parser.add_argument("--unlabeled", type=comma_list, default="", metavar="A,B", help=text)
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at the same time; default: one per GPU, or 1")


def sort_words(args: argparse.Namespace) -> None:
    """Sort the words of a command into args.task, args.config_file, args.files and args.overrides, in place.

    OUTPUT_DIR among the keys is refused where the command has --output-dir: it would be ignored.
    """
    words = args.words
    if args.takes_task and words and words[0] in TASKS:
        args.task, *words = words
    keys = (n for n, word in enumerate(words) if CONFIG_KEY.fullmatch(word) and not Path(word).exists())
    start = next(keys, len(words))
    files, pairs = words[:start], words[start:]
    if files and args.takes_config and not args.config_file:
        args.config_file, *files = files
    if files and not args.takes_files:
        _refuse_strange(files[0], args)
        files, pairs = [], [*files, *pairs]
    if "OUTPUT_DIR" in pairs[::2] and hasattr(args, "output_dir"):
        Parser().error("OUTPUT_DIR is a key of train and eval: give --output-dir D to this command")
    args.files, args.overrides = files, [*(["TRUST_IMPORTS", "True"] if args.trust_imports else []), *pairs]


def _refuse_strange(word: str, args: argparse.Namespace) -> None:
    """Refuse a first word that is meant for a task or a config; other wrong words are unknown keys."""
    if word.endswith((".yaml", ".yml")):
        Parser().error(f"{word} needs an option: give --config-file {word}")
    if args.takes_task and not args.task and "." not in word:
        Parser().error(f"argument task: invalid choice: {word!r} (choose from {', '.join(TASKS)})")


def refuse_missing(files: Sequence[str]) -> None:
    """Refuse files and folders that are not there; patterns, as "photos/*.jpg", are looked up later."""
    from densedist.common.errors import UserError
    from densedist.common.nearest import did_you_mean_path

    for file in files:
        if not (Path(file).expanduser().exists() or has_magic(file)):
            raise UserError(f"{file} does not exist{did_you_mean_path(file)}")


def beside(args: argparse.Namespace) -> dict[str, str]:
    """Return the weights that --beside gives, by name."""
    found: dict[str, str] = {}
    for word in args.beside:
        name, _, weights = word.partition("=")
        if not (name and weights):
            Parser().error(f'--beside is {word}: want NAME=WEIGHTS, e.g. "alone=output/student"')
        if name in found:
            Parser().error(f"--beside: the name {name} is given twice: choose another one")
        found[name] = weights
    return found


def jobs(args: argparse.Namespace) -> int:
    """Return how many runs --jobs asks for at a time."""
    import torch

    return max(1, torch.cuda.device_count()) if args.jobs is None else args.jobs


def comma_list(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def seed_list(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


seed_list.__name__ = "list of whole numbers"  # what argparse calls it


def check_count(count: int, option: str) -> None:
    """Refuse an option that asks for none."""
    if count < 1:
        Parser().error(f"{option} is {count}: want 1 or more")
