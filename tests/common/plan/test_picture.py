"""A picture of plans adds up to their tables."""

import pytest
from matplotlib.figure import Figure

from densedist.common.plan import picture
from densedist.common.plan.step import BACKWARD, KEPT, STUDENT

PARTS = {STUDENT: {"seconds": 0.5}, KEPT: {"seconds": 0.25}, BACKWARD: {"seconds": 1.0}}
MEMORY = {"student's weights": 2 * 10**9, "optimizer": 10**9, "gradients, complete": 7}
PLAN = {
    "iterations": 7200,
    "parts": PARTS,
    "memory": {**MEMORY, "worst": {"total": 5 * 10**9, "gradients": 10**9}},
}


def test_bars_are_as_long_as_their_sum(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    parts = {part: {"seconds": 0.0} for part in picture.PARTS} | PARTS
    picture.draw_plans({"one": PLAN | {"parts": parts}, "two": PLAN | {"parts": parts}}, tmp_path / "a.png")
    left, right = drawn[0].axes
    for axis, whole in ((left, 2 + 1 + 5), (right, 2 * 1.75)):
        ends = [bar.get_x() + bar.get_width() for bar in axis.patches]
        assert max(ends) == pytest.approx(whole)
        assert sum(end == pytest.approx(whole) for end in ends) == 2
    assert len(right.get_legend().get_texts()) == 3
