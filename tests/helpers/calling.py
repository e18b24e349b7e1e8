"""The command `densedist`, called in this process."""

import re
import shlex

import pytest

from densedist.command import COMMANDS, main

COMMAND = r"(?:uv run |\S+ -m )?densedist (.*)"


def densedist(*argv):
    """What the shell does with `densedist argv …`."""
    main([str(word) for word in argv])


def complaint(capsys, *argv):
    """The last line that a wrong command line ends in, without its "error: "; no traceback."""
    with pytest.raises(SystemExit) as stop:
        densedist(*argv)
    assert stop.value.code == 2
    seen = capsys.readouterr().err
    assert "Traceback" not in seen
    last = seen.strip().splitlines()[-1]
    assert last.startswith("error: ")
    return last.removeprefix("error: ")


def accepted(monkeypatch, *argv):
    """A command is parsed, and the config and files that it names are looked for; no more is done."""
    add, _ = COMMANDS[str(argv[0])]
    with monkeypatch.context() as patch:
        patch.setitem(COMMANDS, str(argv[0]), (add, lambda args: None))
        densedist(*argv)


def advised_keys(printed):
    """The KEY VALUE words that `label` prints for the command that trains any student."""
    before, _, line = printed.strip().rpartition("\n")
    assert before.rpartition("\n")[2].endswith("densedist train` command:")
    return shlex.split(line)


def advised(printed):
    """The commands in what a command has printed as advice: lists of words behind `densedist`."""
    return [shlex.split(words) for words in re.findall(rf"^{COMMAND}", printed, re.MULTILINE)]


def advised_as(word, printed):
    """The same in lines that begin with a word, such as "next     densedist …"."""
    return [shlex.split(words) for words in re.findall(rf"^ *{word} +{COMMAND}", printed, re.MULTILINE)]
