"""The pictures of a page: side by side in lines of equally many."""

import numpy as np
import pytest

from densedist.common.report.page import Page, write_page
from densedist.common.report.panels import Gallery, Panel


@pytest.mark.drawn
@pytest.mark.parametrize(
    ("count", "boxes", "style"),
    [
        (2, True, "--wide: 2; --middle: 2; --narrow: 1"),
        (3, True, "--wide: 3; --middle: 3; --narrow: 1"),
        (3, False, "--wide: 3; --middle: 3; --narrow: 1"),
        (4, False, "--wide: 4; --middle: 2; --narrow: 2"),
        (5, False, "--wide: 3; --middle: 3; --narrow: 1"),
        (6, False, "--wide: 3; --middle: 2; --narrow: 2"),
    ],
)
def test_pictures_of_an_image_stand_in_lines_of_equally_many(tmp_path, count, boxes, style):
    panel = Panel(np.zeros((4, 6, 3), np.uint8), "truth", "", (lambda axis: None) if boxes else None)
    write_page(Page("", "", "", gallery=Gallery(["one"], [[panel] * count], [], "")), tmp_path / "page.html")
    assert f'<div class="grid models" style="{style}">' in (tmp_path / "page.html").read_text()
