"""The check sums of a cache, in one file for each process."""

import numpy as np

from densedist.common.cache.check_sums import append_sums, read_sums


def test_an_entry_that_was_cut_off_does_not_shift_others(tmp_path):
    file = tmp_path / "kept"
    append_sums(file, 0, [0], np.array([5, 6, 7]))
    with (tmp_path / "kept.sums.0").open("ab") as opened:
        opened.write(b"\1\0\0")
    append_sums(file, 0, [2], np.array([5, 6, 7]))
    append_sums(file, 11, [1], np.array([5, 2**32 - 1, 7]))
    assert read_sums(file, 4).tolist() == [5, 2**32 - 1, 7, -1]
    assert read_sums(file, 2).tolist() == [5, 2**32 - 1]
