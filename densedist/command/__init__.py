"""The command `densedist COMMAND …`, as which the scripts in tools/ work too: parse first, import later."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

from densedist import check_installation
from densedist.command import data, keys, student, studies, teacher, training
from densedist.command.arguments import Parser, sort_words
from densedist.command.chatter import leave_out_chatter
from densedist.command.guard import in_one_line, quiet_when_unread
from densedist.common.logging import call_warnings_so

Add: TypeAlias = Callable[[Parser], None]
Run: TypeAlias = Callable[[argparse.Namespace], None]

COMMANDS: dict[str, tuple[Add, Run]] = {
    "train": (training.add_train, training.train),
    "eval": (training.add_eval, training.evaluate),
    "compare": (studies.add_compare, studies.compare),
    "tune": (studies.add_tune, studies.tune),
    "predict": (student.add_predict, student.predict),
    "label": (teacher.add_label, teacher.label),
    "visualize": (student.add_visualize, student.visualize),
    "export": (student.add_export, student.export),
    "init": (data.add_init, data.init),
    "check": (data.add_check, data.check),
    "prepare": (data.add_prepare, data.prepare),
    "import": (teacher.add_import, teacher.import_weights),
    "profile": (student.add_profile, student.profile),
    "plan": (training.add_plan, training.plan),
    "keys": (keys.add_keys, keys.keys),
    "quickstart": (studies.add_quickstart, studies.quickstart),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command with its arguments, those of the process by default.

    A mistake is reported in one line, with exit code 2.
    """
    with quiet_when_unread():
        _run(sys.argv[1:] if argv is None else list(argv))


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        lines = [f"  {name:<12}{add.__doc__}" for name, (add, _) in COMMANDS.items()]
        print("\n".join(["usage: densedist COMMAND …, densedist COMMAND --help", "", *lines]))
        return
    if words[0] == "--explain":
        words[0] = "keys"
    name = words[0]
    if name not in COMMANDS:
        Parser().error(f"there is no command {name}; want one of {', '.join(COMMANDS)}")
    add, run = COMMANDS[name]
    parser = Parser(prog=f"densedist {name}", description=add.__doc__)
    add(parser)
    parser.add_argument("--debug", action="store_true", help="also show the traceback of an error")
    args = parser.parse_intermixed_args(words[1:])
    if hasattr(args, "words"):
        sort_words(args)
    leave_out_chatter()
    call_warnings_so()
    try:
        check_installation()
    except ImportError as error:
        parser.error(str(error))
    from densedist.command.first import check_first, say  # now that Detectron2 is known to be installed

    with in_one_line(args.debug):
        check_first(args)
        say(name, args)
        run(args)
