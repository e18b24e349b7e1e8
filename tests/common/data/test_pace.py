"""Whether calls are made in one thread, in several or in processes changes nothing but the time."""

import os
import signal
import threading

import pytest

from densedist.common.data import pace
from densedist.common.data.pace import STRETCH, TRIED, each
from densedist.common.errors import UserError

COUNTS = [0, 1, TRIED, TRIED + 1, 2 * TRIED, 3 * TRIED, 3 * TRIED + 1, 4 * TRIED + STRETCH, 7 * TRIED + STRETCH]


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(pace, "cores", lambda: 2)


@pytest.mark.parametrize("count", COUNTS)
def test_every_item_is_called_once_and_in_order(count, tmp_path):
    with (tmp_path / "calls").open("ab", buffering=0) as file:  # of all processes

        def call(item):
            file.write(b"%d\n" % item)
            return -item

        assert list(each(call, range(count))) == [-item for item in range(count)]
    assert sorted(map(int, (tmp_path / "calls").read_text().split())) == list(range(count))


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


@pytest.fixture
def slow_here(monkeypatch):
    """A clock that goes on at each call of this process."""
    now, here = [0.0], os.getpid()
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now[0])

    def call(_):
        now[0] += 1
        return os.getpid() != here

    return call


def test_processes_are_taken_where_they_are_faster(slow_here, monkeypatch):
    assert sum(each(slow_here, range(2 * STRETCH))) > STRETCH
    monkeypatch.setattr(pace, "cores", lambda: 1)
    assert not any(each(slow_here, range(2 * STRETCH)))


def test_what_fails_in_a_process_is_raised(slow_here):
    def call(item):
        if slow_here(item):
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(each(call, range(2 * STRETCH)))


def test_a_process_that_the_system_ends_is_said(slow_here):
    def call(item):
        if slow_here(item):
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError, match=r"was ended by the system, which may lack memory"):
        list(each(call, range(2 * STRETCH)))
