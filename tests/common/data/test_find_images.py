"""Image files that a user names."""

import cv2
import numpy as np
import pytest
from PIL import Image

from densedist.common.data.images import find_images, first_images, unique_names
from densedist.common.errors import UserError


def write(*files):
    for file in files:
        file.parent.mkdir(exist_ok=True, parents=True)
        cv2.imwrite(str(file), np.zeros((4, 6, 3), np.uint8))


def test_files_and_folders_have_names_of_their_own(tmp_path):
    write(tmp_path / "a" / "x.png", tmp_path / "a" / "deep" / "y.JPG", tmp_path / "b" / "x.png", tmp_path / "x.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    found = find_images([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "x.png")])
    assert found == {
        "deep/y": tmp_path / "a" / "deep" / "y.JPG",
        "x": tmp_path / "a" / "x.png",
        "x-2": tmp_path / "b" / "x.png",
        "x-3": tmp_path / "x.png",
    }


@pytest.mark.parametrize(
    ("names", "taken", "wanted"),
    [
        (["b", "a"], [], ["b", "a"]),
        (["a", "b", "a", "a"], [], ["a", "b", "a-2", "a-3"]),
        (["a", "a", "a-2"], [], ["a", "a-3", "a-2"]),  # a name that is given once stays
        (["a-2", "a", "a"], [], ["a-2", "a", "a-3"]),
        (["overview", "a"], ["overview", "relations"], ["overview-2", "a"]),
        ([], ["a"], []),
    ],
)
def test_names_are_all_different(names, taken, wanted):
    assert unique_names(names, taken) == wanted


def test_what_cannot_be_used_is_named(tmp_path):
    with pytest.raises(UserError, match="no image is named: give files or folders"):
        find_images([])
    with pytest.raises(UserError, match=f"{tmp_path} has no image: want files that end in .bmp"):
        find_images([str(tmp_path)])
    with pytest.raises(UserError, match=r"gone.png does not exist"):
        find_images([str(tmp_path / "gone.png")])
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(UserError, match=r"text.png is not an image"):
        find_images([str(tmp_path)])
    write(tmp_path / "text.png")
    (tmp_path / "text.png").write_bytes((tmp_path / "text.png").read_bytes()[:-30])
    with pytest.raises(UserError, match=r"text.png is damaged"):
        find_images([str(tmp_path)])


def test_only_the_headers_of_many_images_are_read(tmp_path, monkeypatch):
    """And the few that a picture is made of are decoded, as damage in between shows there alone."""
    write(*(tmp_path / f"{number}.jpg" for number in range(3)))
    decoded = []
    load = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda image: decoded.append(image) or load(image))
    assert len(find_images([str(tmp_path)])) == 3
    assert not decoded
    assert list(first_images(tmp_path, 2)) == ["0", "1"]
    assert len({id(image) for image in decoded}) == 2


def test_hidden_files_and_folders_are_no_images(tmp_path):
    """Of macOS, Jupyter, a network disk; a link to nothing stays, for the check to name."""
    write(
        tmp_path / "a.png",
        tmp_path / ".ipynb_checkpoints" / "a-checkpoint.png",
        tmp_path / "@eaDir" / "a.png" / "S.jpg",
    )
    write(tmp_path / "deep" / "b.png", tmp_path / "deep" / ".thumbnails" / "b.png")
    (tmp_path / "._a.png").write_bytes(b"Mac OS X")
    assert find_images([str(tmp_path)]) == {"a": tmp_path / "a.png", "deep/b": tmp_path / "deep" / "b.png"}
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(UserError, match=r"gone.png does not exist"):
        find_images([str(tmp_path)])


def test_linked_folders_are_searched_once(tmp_path):
    write(tmp_path / "real" / "a.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "set" / "back").symlink_to(tmp_path / "set")
    assert list(find_images([str(tmp_path / "set")])) == ["linked/a"]


def test_a_hidden_file_that_is_named_is_meant(tmp_path):
    write(tmp_path / ".a.png")
    assert list(find_images([str(tmp_path / ".a.png")])) == [".a"]
