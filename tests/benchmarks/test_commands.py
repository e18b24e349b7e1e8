"""What the benchmark of commands calls a mistake is refused; all else it only calls."""

import pytest

from benchmarks import commands
from densedist.command import COMMANDS
from helpers.calling import accepted, complaint

MISTYPED = [(name, what, words) for name, call in commands.CALLS.items() for what, words in call.mistyped().items()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    commands.write_files(tmp_path)
    monkeypatch.chdir(tmp_path)


def test_all_commands_are_called(folder, monkeypatch):
    assert set(commands.CALLS) == set(COMMANDS)
    for name, call in commands.CALLS.items():
        accepted(monkeypatch, name, *call.words)


@pytest.mark.parametrize(("name", "what", "words"), MISTYPED, ids=[f"{name}-{what}" for name, what, _ in MISTYPED])
def test_a_mistake_is_refused_by_what_is_like_it(name, what, words, folder, capsys):
    like = {"config": commands.CONFIG, "key": "SOLVER.MAX_ITER", "path": ""}
    said = complaint(capsys, name, *words)
    assert "; did you mean " in said
    assert like[what] in said


def test_a_table_has_a_line_for_each_command():
    (line,) = commands.table({"keys": {commands.FIRST: 0.5}})
    assert line == {"command": "keys", "first word": "0.50", "config": "", "key": "", "path": ""}
