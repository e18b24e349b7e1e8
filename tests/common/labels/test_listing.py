"""The images that `densedist label` is given."""

from pathlib import Path

import pytest

from densedist.common.data.images import find_images
from densedist.common.errors import UserError
from densedist.common.labels.listing import list_images


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a/1.jpg", "photos/a/2.png", "photos/b/1.jpg", "photos/b/notes.md"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return tmp_path / "photos"


def listed(*words):
    return {name: str(file) for name, file in list_images(words).items()}


def test_folders_and_files(photos, monkeypatch):
    """By the names that the other commands give them; none is opened."""
    assert listed("photos") == {"a/1": "photos/a/1.jpg", "a/2": "photos/a/2.png", "b/1": "photos/b/1.jpg"}
    assert listed("photos/a/1.jpg", "photos/b/1.jpg") == {"1": "photos/a/1.jpg", "1-2": "photos/b/1.jpg"}
    monkeypatch.setattr("densedist.common.data.images.check_image", lambda file: None)
    for words in (["photos"], ["photos/b/1.jpg", "photos"]):
        assert list(list_images(words).items()) == list(find_images(words).items())


def test_patterns(photos):
    assert listed("photos/*/1.*") == {"a/1": "photos/a/1.jpg", "b/1": "photos/b/1.jpg"}
    assert list(listed("photos/**/*")) == ["a/1", "a/2", "b/1"]
    with pytest.raises(UserError, match=r"no image is like photos/\*.gif: want files that end in .bmp, "):
        listed("photos/*.gif")


def test_lists(photos):
    """Their paths begin in their own folder, or in the current one; what is missing is found out when it is read."""
    Path("photos/list.txt").write_text("a/1.jpg\n\nb/1.jpg\nb/gone.jpg\n")
    assert listed("photos/list.txt") == {
        "a/1": "photos/a/1.jpg",
        "b/1": "photos/b/1.jpg",
        "b/gone": "photos/b/gone.jpg",
    }
    Path("photos/list.txt").write_text("photos/a/1.jpg\nphotos/a/2.png\n")
    assert listed("photos/list.txt") == {"1": "photos/a/1.jpg", "2": "photos/a/2.png"}
    Path("photos/list.txt").write_text(f"{photos}/a/1.jpg\n")
    assert listed("photos/list.txt") == {"1": f"{photos}/a/1.jpg"}


@pytest.mark.parametrize(
    ("content", "said"), [(b"\n", "names no image: want the path"), (b"\xff\xd8", "is no text: want the path")]
)
def test_lists_that_are_none(photos, content, said):
    Path("list.txt").write_bytes(content)
    with pytest.raises(UserError, match=f"list.txt {said}"):
        listed("list.txt")


def test_what_is_not_there(photos):
    with pytest.raises(UserError, match=r"photos/c.jpg does not exist"):
        listed("photos/c.jpg")


@pytest.mark.parametrize("name", ["shard.tar", "photos.ZIP", "photos.tar.gz"])
def test_archives(photos, name):
    Path(name).touch()
    with pytest.raises(UserError, match=rf"{name} is an archive: unpack it, and name the folder"):
        listed(name)
