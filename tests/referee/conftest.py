"""What the referee's tests share: a tally that is told at the end."""

import pytest

from densedist.common.data import images
from densedist.seg import evaluation
from referee.tally import Tally


@pytest.fixture(scope="module", autouse=True)
def no_more_than_is_asked():
    """A picture of the confusion matrix, and threads for three images, take as long as all the rest."""
    draw, threads = evaluation.draw_confusion, images.THREADS
    evaluation.draw_confusion, images.THREADS = (lambda *_: None), 2
    yield
    evaluation.draw_confusion, images.THREADS = draw, threads


@pytest.fixture(scope="module")
def tally(request):
    tally = Tally()
    yield tally
    if tally.seen and (terminal := request.config.pluginmanager.get_plugin("terminalreporter")):
        terminal.write_line("")
        for line in [request.module.__name__, *tally.lines()]:
            terminal.write_line(line)
