"""Work shared out among threads: every item once, one thread for an operation, and nothing changed for the caller."""

import multiprocessing
import threading

import pytest
import torch

from densedist.common.losses.dist.threads import in_threads, one_thread

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_threads():
    """What pytest's process had, after the tests."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def set_and_seen(function):
    """The threads that function finds set for operations, in this thread and in a new one, after 3 were set."""
    torch.set_num_threads(3)
    function()
    seen = [torch.get_num_threads()]
    new = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    new.start()
    new.join()
    return seen


def together(items=range(50)):
    """For each item who did it and how, where at least two threads have to take part."""
    both = threading.Barrier(2, timeout=20)

    def start():
        both.wait()
        return lambda item: (item, threading.get_ident(), torch.get_num_threads(), torch.is_grad_enabled())

    return in_threads(start, items, CPU)


def test_every_item_once_and_in_order():
    torch.set_num_threads(2)
    done = together()
    assert [item for item, *_ in done] == [*range(50)]
    assert threading.get_ident() not in {thread for _, thread, *_ in done}
    assert {(threads, gradient) for *_, threads, gradient in done} == {(1, False)}


@pytest.mark.parametrize(
    ("threads", "items", "device"), [(1, 5, CPU), (4, 1, CPU), (4, 5, torch.device("cuda"))], ids=str
)
def test_no_thread_where_it_would_not_help(threads, items, device):
    torch.set_num_threads(threads)
    seen = in_threads(lambda: lambda _: (threading.get_ident(), torch.get_num_threads()), range(items), device)
    assert seen == items * [(threading.get_ident(), 1 if device == CPU else threads)]


@pytest.mark.parametrize("items", [1, 5])
def test_callers_threads_stay(items):
    def fail():
        with pytest.raises(ZeroDivisionError):
            in_threads(lambda: lambda item: 1 // item, [0] * items, CPU)

    assert set_and_seen(lambda: in_threads(lambda: abs, range(items), CPU)) == [3, 3]
    assert set_and_seen(fail) == [3, 3]


def test_one_thread_and_then_as_before():
    inside = []

    def once():
        with one_thread():
            inside.append(torch.get_num_threads())

    assert set_and_seen(once) == [3, 3]
    assert inside == [1]


def test_forked_process_has_threads_too():
    torch.set_num_threads(2)
    together()
    process = multiprocessing.get_context("fork").Process(target=together)
    process.start()
    process.join(30)
    assert process.exitcode == 0
