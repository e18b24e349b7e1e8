"""A cache is read whole, of the teacher that was asked so, or not at all; on a disk that machines share, too."""

import os
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from densedist.common.cache import filling
from densedist.common.cache.arrays import PAGE, Arrays, record_of
from densedist.common.cache.filling import cache_file, fill
from densedist.common.errors import UserError
from densedist.common.fingerprint import of_model
from densedist.common.locks import locked
from helpers.processes import run_processes, server

AGAIN = "name another folder, or delete this one"


def make(folder, compute=lambda number: {"a": torch.full((3,), float(number))}, count=5, **teacher):
    """A cache of images that are their numbers."""
    files = [folder / f"{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        if not file.is_file():
            file.write_text(str(number))
    fill(folder / "kept", list(map(str, files)), teacher, lambda _: {"shapes": {"a": [3]}}, compute)
    return folder / "kept"


def refusal(do):
    with pytest.raises(UserError) as error:
        do()
    return str(error.value).removeprefix("DISTILL.TEACHER.CACHE: ")


def test_an_image_without_its_mark_is_no_zeros(tmp_path):
    kept = make(tmp_path)
    (tmp_path / "kept.sums.0").unlink()
    arrays = Arrays(kept)
    assert arrays.missing() == [0, 1, 2, 3, 4]
    assert refusal(lambda: arrays.read(3)) == f"{kept} has no entry for {tmp_path}/3.png yet: {AGAIN}"
    make(tmp_path)
    assert (Arrays(kept).read(3)["a"] == 3).all()


def test_a_damaged_image_is_refused_by_its_name_and_others_are_read(tmp_path):
    kept = make(tmp_path)
    content = bytearray(kept.read_bytes())
    content[2 * PAGE + 1] ^= 1
    kept.write_bytes(content)
    arrays = Arrays(kept)
    assert (arrays.read(1)["a"] == 1).all()
    assert refusal(lambda: arrays.read(2)) == f"the entry of {tmp_path}/2.png in {kept} is damaged: {AGAIN}"


def test_a_file_of_another_length_is_refused(tmp_path):
    kept = make(tmp_path)
    kept.write_bytes(kept.read_bytes()[:-1])
    assert refusal(lambda: make(tmp_path)) == f"{kept} has {5 * PAGE - 1} bytes of {5 * PAGE}: {AGAIN}"


@pytest.mark.parametrize("gone", ["kept", "kept.json"])
def test_where_a_part_is_deleted_all_is_made_anew(tmp_path, gone):
    kept = make(tmp_path)
    (tmp_path / gone).unlink()
    seen = []

    def compute(number):
        seen.append(number)
        return {"a": torch.full((3,), 7.0)}

    make(tmp_path, compute)
    assert seen == [0, 1, 2, 3, 4]
    assert (Arrays(kept).read(4)["a"] == 7).all()


@pytest.mark.parametrize("text", ["", "{", '{"seconds": 0}'])
def test_a_record_that_is_damaged_or_old_is_refused(tmp_path, text):
    kept = make(tmp_path)
    record_of(kept).write_text(text)
    said = "was written by another version of densedist" if text.endswith("}") else "is damaged"
    assert said in refusal(lambda: make(tmp_path))


def test_a_disk_that_cannot_be_asked_for_room_is_written_to(tmp_path, monkeypatch):
    """As macOS has it."""
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr(filling, "BLOCK", 1000)
    for size in (0, 999, 1000, 2500):
        filling._reserve(tmp_path / "a", size)
        assert (tmp_path / "a").read_bytes() == bytes(max(size, 1))


def test_no_two_images_share_a_page(tmp_path):
    arrays = Arrays(make(tmp_path))
    starts = [part.ctypes.data % PAGE for number in range(5) for _, part in arrays._parts(number)]
    assert starts == [0] * 5


class Part(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self.register_buffer("mean", torch.zeros(2), persistent=False)


def test_a_teacher_is_its_weights_structure_and_what_is_said_of_it():
    model = Part()
    one = of_model(model, least=0.5)
    assert of_model(model, least=0.5) == one
    assert one["least"] == "0.5"
    with torch.no_grad():
        model.mean += 1  # in no state_dict
        assert of_model(model, least=0.5)["weights"] != one["weights"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"least": "0.7"}, "least, then 0.5, now 0.7"),
        ({"least": "0.5", "most": "2"}, "most, then nothing, now 2"),
        ({"least": "x" * 199}, "another least"),
    ],
)
def test_what_differs_is_said(tmp_path, other, said):
    make(tmp_path, least="0.5")
    assert refusal(lambda: make(tmp_path, **other)).endswith(f"other settings of images or logits: {AGAIN} ({said})")


def hold(file, release, pipe):
    with locked(file):
        pipe.send("held")
        while not release.exists():
            time.sleep(0.02)


def wait_together(rank, count, folder, release):
    looks = []

    def pause(_):
        looks.append(1)
        time.sleep(0.02)
        if len(looks) == 3:
            release.touch()

    filling.time = Mock(sleep=pause, perf_counter=time.perf_counter, monotonic=time.monotonic)
    make(folder, lambda number: time.sleep(0.3 * rank) or {"a": torch.full((3,), float(number))})
    assert len(looks) > (6 if rank == 0 else 2)  # the main one waits for the images of the other, too


def test_processes_wait_for_another_run_and_for_one_another(tmp_path):
    ours, theirs = server.Pipe(duplex=False)
    release = tmp_path / "release"
    other = server.Process(target=hold, args=(tmp_path / "kept.lock", release, theirs))
    other.start()
    assert ours.recv() == "held"
    run_processes(2, wait_together, tmp_path, release)
    arrays = Arrays(tmp_path / "kept")
    assert [arrays.read(number)["a"][0] for number in range(5)] == [0, 1, 2, 3, 4]
    assert sorted(file.name for file in tmp_path.glob("*.sums.*")) == ["kept.sums.0", "kept.sums.1"]
    other.join()


def apart(rank, count, folder):
    filling.PAUSE, filling.PATIENCE = 0.1, 0.2
    own = Path(folder, str(rank))
    own.mkdir()
    assert "is not the same folder on all machines: name one that they share" in refusal(lambda: make(own))


def test_a_folder_that_machines_do_not_share_is_refused(tmp_path):
    run_processes(2, apart, str(tmp_path))


def test_a_cache_of_a_path_that_was_relative_goes_on(tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    kept.mkdir()
    name = f"{tmp_path}/data/train[:6]"
    whole = kept / f"{name.replace('/', '_')}.logits"
    assert cache_file(kept, name, "logits") == whole
    (kept / "data_train[:6].logits").touch()
    assert cache_file(kept, name, "logits") == whole
    monkeypatch.chdir(tmp_path)
    assert cache_file(kept, name, "logits") == cache_file(kept, "data/train[:6]", "logits")
    assert cache_file(kept, "train", "logits") == kept / "train.logits"
