"""What the referee's tests share: a tally that is told at the end."""

import pytest

from densedist.seg import evaluation
from referee.tally import Tally


@pytest.fixture(scope="module", autouse=True)
def no_more_than_is_asked():
    """A picture of the confusion matrix takes as long as all the rest."""
    draw, evaluation.draw_confusion = evaluation.draw_confusion, lambda *_: None
    yield
    evaluation.draw_confusion = draw


@pytest.fixture(scope="module")
def tally(request):
    tally = Tally()
    yield tally
    if tally.seen and (terminal := request.config.pluginmanager.get_plugin("terminalreporter")):
        terminal.write_line("")
        for line in [request.module.__name__, *tally.lines()]:
            terminal.write_line(line)
