"""What commands share: one-line mistakes, options, and KEY VALUE pairs at the end that change keys of the config."""

import argparse
import re
import sys
from pathlib import Path
from typing import NoReturn

KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.\w+)*")


class Parser(argparse.ArgumentParser):
    """argparse's, but a mistake is one line."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def add_task(parser: Parser) -> None:
    parser.add_argument("task", choices=["det", "seg"])


def add_config(parser: Parser, note: str = "") -> None:
    where = "path, or name among the packaged configs or in Detectron2's model zoo"
    parser.add_argument("--config-file", default="", metavar="F", help=where + note)


def add_weights(parser: Parser) -> None:
    parser.add_argument("--weights", required=True, metavar="W", help="checkpoint, OUTPUT_DIR of a run, or SMP folder")
    add_config(parser, "; default: config.yaml beside the weights")


def add_teacher(parser: Parser) -> None:
    parser.add_argument("--teacher", default="", metavar="WT", help="or none; default: DISTILL.TEACHER of the config")


def add_beside(parser: Parser) -> None:
    text = "another model of the same classes, drawn beside this one; may be given several times"
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=W", help=text)


def add_output(parser: Parser, default: str, note: str = "default: %(default)s") -> None:
    # An empty one is for what is called to say.
    parser.add_argument("--output-dir", type=Path, default=default or None, metavar="D", help=note)


def add_score(parser: Parser, default: str) -> None:
    parser.add_argument("--score-threshold", type=float, metavar="S", help=f"of a detector's boxes; default {default}")


def add_overrides(parser: Parser, files: str = "") -> None:
    """KEY VALUE pairs, after files where the command takes some."""
    parser.add_argument("words", nargs="*", metavar=f"{files} KEY VALUE".strip(), help="keys of the config come last")
    text = "import what IMPORTS of a config from elsewhere names"
    parser.add_argument("--trust-imports", action="store_true", help=text)


def overrides(args: argparse.Namespace) -> list[str]:
    """The KEY VALUE pairs of a command that takes no files.

    OUTPUT_DIR among them ends in one line where the command has --output-dir: it would say where to, and not be heard.
    """
    if "OUTPUT_DIR" in args.words[::2] and hasattr(args, "output_dir"):
        Parser().error("OUTPUT_DIR is for train and eval: say --output-dir D to this command")
    return [*(["TRUST_IMPORTS", "True"] if args.trust_imports else []), *args.words]


def files_and_overrides(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The words before the first that looks like a key and is no file, and the KEY VALUE pairs from there on."""
    words = args.words
    keys = (n for n, word in enumerate(words) if KEY.fullmatch(word) and not Path(word).exists())
    start = next(keys, len(words))
    files, args.words = words[:start], words[start:]
    return files, overrides(args)


def comma_list(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def seed_list(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


seed_list.__name__ = "list of whole numbers"  # what argparse calls it


def check_count(count: int, option: str) -> None:
    """Make sure that an option asks for one or more."""
    if count < 1:
        Parser().error(f"{option} is {count}: want 1 or more")
