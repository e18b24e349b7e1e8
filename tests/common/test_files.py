"""Files that are there whole or not at all."""

import pytest

from densedist.common.files import write_atomic, write_text


def test_two_that_write_one_file_at_a_time_do_not_take_each_others(tmp_path):
    """As two shells that share a search do at its end."""
    file = tmp_path / "best.yaml"

    def slowly(opened):
        opened.write(b"of one")
        write_atomic(file, lambda other: other.write(b"of another"), ".2")
        assert file.read_bytes() == b"of another"

    write_atomic(file, slowly, ".1")
    assert file.read_text() == "of one"
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "results.json"
    write_text(file, "old")
    with pytest.raises(ZeroDivisionError):
        write_atomic(file, lambda opened: opened.write(b"ne") / 0)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
