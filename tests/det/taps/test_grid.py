"""Rows of dense heads are read where the heads have written them."""

import pytest
import torch

from densedist.common.losses import DISTLoss, KDLoss
from densedist.det.taps.grid import by_row, in_place


@pytest.mark.parametrize("columns", [4, 12], ids=["anchors", "locations"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "channels_last"])
def test_no_row_is_copied_and_the_losses_are_the_same(layout, columns):
    student, teacher = (torch.randn(2, 12, 3, 5).to(memory_format=layout) for _ in range(2))
    together = layout is torch.channels_last
    ours, theirs = (in_place(x, columns, together) for x in (student, teacher))
    assert (ours.data_ptr(), theirs.data_ptr()) == (student.data_ptr(), teacher.data_ptr())
    assert ours.shape[1] == columns
    other = by_row(teacher, 12).view(2, 3, 5, 12).permute(0, 3, 1, 2)  # the same in another order
    assert torch.equal(in_place(other, columns, together), theirs)
    for loss in (DISTLoss(activation="sigmoid"), KDLoss(activation="sigmoid")):
        torch.testing.assert_close(loss(ours, theirs), loss(by_row(student, columns), by_row(teacher, columns)))
