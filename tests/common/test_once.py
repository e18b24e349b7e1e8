"""One process looks, all hear of it."""

import pytest

from densedist.common.errors import UserError
from densedist.common.distributed import once


@pytest.mark.parametrize("main", [True, False])
def test_every_process_is_told_what_the_main_process_found(monkeypatch, main):
    looked = []

    def check():
        looked.append(main)
        raise UserError("a.jpg is empty")

    monkeypatch.setattr("common.once.comm.is_main_process", lambda: main)
    monkeypatch.setattr("common.once.comm.all_gather", lambda mine: ["a.jpg is empty", mine])
    with pytest.raises(UserError, match=r"^a\.jpg is empty$"):
        once(check)
    assert bool(looked) == main


def test_nothing_found_is_nothing_raised():
    once(lambda: None)
