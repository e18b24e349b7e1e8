"""Curves: one color for one thing, and a legend that covers none of them."""

import re
from functools import partial

import pytest
from matplotlib.figure import Figure

from densedist.common.report.history import Point
from densedist.common.report.plots import _panel, _panels, legend_below, svg

LOSSES = ["loss_box_reg", "loss_cls", "loss_dist", "loss_rpn_cls", "loss_rpn_loc"]


@pytest.fixture
def axes():
    """Of all panels of a run, by title."""
    names = ["total_loss", *LOSSES, *(f"gradient/{name}" for name in LOSSES[1:]), "lr", "bbox/AP"]
    history = {name: [Point(i, i, i + n) for i in range(30)] for n, name in enumerate(names)}
    found = {}
    for title, series in _panels(history, "bbox/AP").items():
        axis = found[title] = Figure(figsize=(5, 4), layout="constrained").subplots()
        _panel(axis, title, series, history, {})
    return found


def test_a_loss_has_one_color_and_what_is_none_has_the_color_of_no_loss(axes):
    losses, shares, *others = (
        {line.get_label(): (line.get_color(), line.get_linestyle()) for line in axis.lines} for axis in axes.values()
    )
    assert len(set(losses.values())) == len(losses) == 6
    assert {name: losses[name] for name in shares} == shares
    assert {look for other in others for look in other.values()} == {losses["sum of all"]}


def test_a_legend_lies_below_the_axis(axes):
    for axis in list(axes.values())[:2]:
        axis.figure.draw_without_rendering()
        legend, labels = axis.get_legend().get_window_extent(), axis.xaxis.get_tightbbox()
        assert 0 <= legend.y0 < legend.y1 <= labels.y0 + 1


@pytest.mark.drawn
def test_a_drawing_of_a_page_is_higher_for_its_legend():
    def draw(lines, axis):
        for number in range(lines):
            axis.plot([0, 1], [0, 1], label=f"a loss of a long name {number}")
        if lines > 1:
            legend_below(axis)

    one, six = (float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)', svg(partial(draw, n)))[1]) for n in (1, 6))
    assert six - one > 3 * 9  # points: at most two names in a line
