"""densedist keys: the reference of keys, without PyTorch."""

import logging
import signal
import subprocess
import sys

import pytest

from densedist.command.guard import quiet_when_unread
from helpers.calling import complaint, densedist


def test_all_keys_are_listed_by_their_groups(capsys):
    densedist("keys")
    printed = capsys.readouterr().out
    assert "\nDISTILL.DIST\n  DISTILL.DIST.BETA = " in printed
    assert "\n  TASK = det    (det only)\n" in printed


def test_a_part_of_a_name_lists_those_that_have_it(capsys):
    densedist("keys", "dist.t")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if " = " in line] == ["DISTILL.DIST.TAU"]
    densedist("keys", "solver*lr")
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if " = " in line]
    assert "SOLVER.BASE_LR" in names
    assert all(name.startswith("SOLVER.") and "LR" in name for name in names)


def test_a_word_of_meanings_will_do_where_no_name_has_it(capsys):
    densedist("keys", "temperature")
    assert "  DISTILL.DIST.TAU = " in capsys.readouterr().out


def test_a_whole_name_is_explained(capsys):
    densedist("--explain", "solver.ema_decay")
    assert capsys.readouterr().out == (
        "SOLVER.EMA_DECAY\n"
        "  Above 0: an exponential moving average of the weights is evaluated and saved as the student.\n"
        "  type     float\n"
        "  default  0.0\n"
        "  values   0 (off) to below 1\n"
        "  task     det and seg\n"
    )
    densedist("keys", "TASK")
    assert capsys.readouterr().out.count("\n  type ") == 2


def test_a_warning_before_there_is_a_log_is_called_one(monkeypatch):
    """As those of data, which are read before a run is begun."""
    monkeypatch.setattr(logging.lastResort, "formatter", None)
    densedist("keys", "TASK")
    record = logging.makeLogRecord({"levelno": logging.WARNING, "levelname": "WARNING", "msg": "no object of car"})
    assert logging.lastResort.format(record) == "warning: no object of car"


def test_a_name_like_no_key_is_refused_with_the_nearest(capsys):
    message = complaint(capsys, "keys", "DISTILL.DIST.TUA")
    assert message.startswith("no key matches DISTILL.DIST.TUA; did you mean DISTILL.DIST.TAU?")


@pytest.mark.parametrize("words", [["keys"], ["--help"]])
def test_output_that_nobody_reads_ends_without_a_word(words):
    command = [sys.executable, "-m", "densedist", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 128 + signal.SIGPIPE)
    process.stderr.close()


def test_another_pipe_that_breaks_is_an_error(capsys):
    with pytest.raises(BrokenPipeError), quiet_when_unread():
        raise BrokenPipeError


def test_pytorch_is_not_imported():
    program = "import sys; from densedist.command import main; main(['keys', 'TAU']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
