"""What is made of a file is made once, and is what was put in."""

import os
import threading

import pytest

from densedist.common.data import packed
from densedist.common.data.packed import Chained, Mapped, kept, pack

ITEMS = [{"a": [1, 2.5]}, "é", None, list(range(100))]


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "annotations.json"
    file.write_text("old")
    os.utime(file, (1, 1))
    return file


class Maker:
    calls = 0

    def __call__(self):
        self.calls += 1
        return {"call": self.calls}, iter(ITEMS)


def test_items_are_what_was_packed():
    items = pack("head", ITEMS)
    assert [*items] == ITEMS
    assert (items.head, len(items), items[-1], items[1:3]) == ("head", 4, ITEMS[-1], ITEMS[1:3])
    assert items[0] is not items[0]
    with pytest.raises(IndexError):
        items[4]
    doubled = Mapped(lambda item, number: (item, 2 * number), items, range(4))
    assert doubled[3] == (ITEMS[3], 6)
    chained = Chained([items, [], ["last"]])
    assert [*chained] == [*ITEMS, "last"]
    assert [chained[3], chained[4], chained[-1]] == [ITEMS[3], "last", "last"]
    assert [*Chained([])] == [*pack(None, [])] == []


def test_a_later_start_makes_nothing(source):
    make = Maker()
    first, second = kept("x", source, ["a"], make), kept("x", source, ["a"], make)
    assert [*first] == [*second] == ITEMS
    assert (make.calls, first.new, second.new) == (1, True, False)
    kept("x", source, ["b"], make)
    assert make.calls == 2
    source.write_text("new")
    os.utime(source, (2, 2))
    assert kept("x", source, ["a"], make).head == {"call": 3}


def test_several_processes_make_it_once(source):
    """Threads that lock a file as processes do."""
    make, found = Maker(), []
    threads = [threading.Thread(target=lambda: found.append([*kept("x", source, [], make)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [ITEMS] * 4
    assert make.calls == 1


def test_what_has_just_changed_is_not_kept(source):
    make = Maker()
    os.utime(source)
    for _ in range(2):
        assert [*kept("x", source, [], make)] == ITEMS
    assert make.calls == 2


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-9], lambda content: content[:20]])
def test_a_damaged_cache_is_made_anew(source, tmp_path, damage):
    make = Maker()
    kept("x", source, [], make)
    (file,) = (tmp_path / "cache").rglob("*.bin")
    file.write_bytes(damage(file.read_bytes()))
    assert [*kept("x", source, [], make)] == ITEMS
    assert make.calls == 2


def test_without_a_cache_it_is_made_in_memory(source, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder would be")
    make = Maker()
    assert [*kept("x", source, [], make)] == ITEMS


def test_what_another_user_has_written_is_not_unpickled(source, monkeypatch):
    make = Maker()
    kept("x", source, [], make)
    user = os.getuid()
    monkeypatch.setattr(packed.os, "getuid", lambda: user + 1)
    assert [*kept("x", source, [], make)] == ITEMS
    assert make.calls > 1
