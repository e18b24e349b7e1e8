"""The tools, called in this process with a command line."""

import runpy
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


def call(monkeypatch, tool, *argv):
    """What the shell does with tools/<tool>.py argv …"""
    monkeypatch.setattr("sys.argv", [f"{tool}.py", *map(str, argv)])
    runpy.run_path(str(TOOLS / f"{tool}.py"), run_name="__main__")


def complaint(monkeypatch, capsys, tool, *argv):
    """The one line that a wrong command line ends in."""
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, tool, *argv)
    assert stop.value.code == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    return line
