"""Whether calls are made in one thread or in several changes nothing but the time."""

import threading

import pytest

from densedist.common.data import pace
from densedist.common.data.pace import STRETCH, TRIED, each

COUNTS = [0, 1, TRIED, TRIED + 1, 2 * TRIED, 3 * TRIED, 3 * TRIED + 1, 4 * TRIED + STRETCH, 7 * TRIED + STRETCH]


@pytest.mark.parametrize("count", COUNTS)
def test_every_item_is_called_once_and_in_order(count):
    calls = []

    def call(item):
        calls.append(item)
        return -item

    assert list(each(call, range(count))) == [-item for item in range(count)]
    assert sorted(calls) == list(range(count))


@pytest.mark.parametrize("waits", [False, True])
def test_the_faster_way_is_taken(waits, monkeypatch):
    """By a clock that goes on at each call of this thread, or at each of another."""
    now, main, threads = [0.0], threading.get_ident(), []
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now[0])

    def call(_):
        alone = threading.get_ident() == main
        threads.append(alone)
        now[0] += alone == waits

    assert len(list(each(call, range(STRETCH)))) == STRETCH
    rest = threads[3 * TRIED :]
    assert all(alone != waits for alone in rest)
    assert threads[: 2 * TRIED] == [True] * (2 * TRIED)


def test_what_fails_is_raised():
    def call(item):
        if item == 5 * TRIED:
            raise OSError("gone")
        return item

    with pytest.raises(OSError, match="gone"):
        list(each(call, range(STRETCH)))


def test_a_caller_may_stop():
    assert next(each(str, range(STRETCH))) == "0"
