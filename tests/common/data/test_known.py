"""A file that was found sound is not read again until it changes."""

import os

import pytest

from densedist.common.data import images
from densedist.common.data.images import DamagedError, check_images
from densedist.common.errors import UserError


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "MANY", 1)
    names = [str(tmp_path / f"{number}.txt") for number in range(5)]
    for number, name in enumerate(names):
        write(name, "bad" if number == 3 else "good", 1)
    return names


def write(name, text, time):
    with open(name, "w") as file:
        file.write(text)
    os.utime(name, (time, time))


@pytest.fixture
def look(files):
    """Return which files a look at all of them reads, and what it finds or refuses."""

    def call(depends=""):
        read = []

        def check(name):
            with open(name) as file:
                text = file.read()
            read.append(files.index(name))
            if text == "bad":
                raise DamagedError(f"{name} is bad")
            return text

        try:
            found = check_images(files, check, "SIDE", lambda name: [name], depends)
        except UserError as error:
            found = str(error)
        return sorted(read), found

    return call


def test_files_are_read_again_when_they_have_changed(files, look):
    assert look() == ([0, 1, 2, 3, 4], look()[1])
    read, message = look()
    assert read == [3]  # what is damaged is not remembered
    assert message.startswith(f"SIDE: 1 of 5 images cannot be used, first {files[3]} is bad; repair")
    write(files[3], "good", 1)
    write(files[1], "better", 2)
    assert look() == ([1, 3], ["good", "better", "good", "good", "good"])
    assert look()[0] == []
    assert look("another config")[0] == [0, 1, 2, 3, 4]
    write(files[0], "bad", 3)
    assert look()[0] == [0]


def test_a_file_that_has_just_changed_is_read_again(files, look):
    write(files[3], "good", 1)
    os.utime(files[2])
    look()
    assert look()[0] == [2]


def test_a_missing_file_is_missed(files, look):
    look()
    os.remove(files[0])
    with pytest.raises(FileNotFoundError):
        look()
