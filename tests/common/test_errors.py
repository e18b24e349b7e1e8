"""One process looks, all hear of it."""

import pytest

from densedist.common.errors import UserError, on_main_process


@pytest.mark.parametrize("main", [True, False])
def test_every_process_is_told_what_the_main_process_found(monkeypatch, main):
    looked = []

    def check():
        looked.append(main)
        raise UserError("a.jpg is empty")

    monkeypatch.setattr("detectron2.utils.comm.is_main_process", lambda: main)
    monkeypatch.setattr("detectron2.utils.comm.all_gather", lambda mine: ["a.jpg is empty", mine])
    with pytest.raises(UserError, match=r"^a\.jpg is empty$"):
        on_main_process(check)
    assert bool(looked) == main


def test_nothing_found_is_nothing_raised():
    on_main_process(lambda: None)
