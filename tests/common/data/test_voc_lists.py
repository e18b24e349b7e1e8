"""Lists of a VOC split, in the ways that others write them."""

import codecs
import unicodedata
from pathlib import PurePosixPath

import pytest

from densedist.common.data.voc_lists import images_listed, read_text
from densedist.common.errors import UserError

NAMES = ["000", "two words", "a.b", "image 1", unicodedata.normalize("NFC", "Bäume")]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "JPEGImages"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.{'JPG' if name == '000' else 'png'}").write_bytes(b"")
    return folder


def read(images, content):
    file = images.parent / "train.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return images_listed(file, images, "want a tree")


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(NAMES),
        "\ufeff" + "\r\n".join(NAMES) + "\r\n\r\n",
        "\n".join(f"{name}.{'JPG' if name == '000' else 'png'}" for name in NAMES),
        "\n".join(f"{name}  {sign}" for name, sign in zip(NAMES, (1, -1, 0, 1, 1), strict=True)),
        unicodedata.normalize("NFD", "\n".join(NAMES)),
        codecs.BOM_UTF16_LE + "\r\n".join(NAMES).encode("utf-16-le"),
    ],
)
def test_names(images, content):
    found = read(images, content)
    assert [one.name for one in found] == NAMES
    assert [one.image.stem for one in found] == NAMES
    assert not any(one.mask for one in found)


def test_paths_of_image_and_mask(images):
    (one,) = read(images, "/JPEGImages/000.JPG /SegmentationClassAug/000.png\n")
    assert (one.name, one.image) == ("000", images / "000.JPG")
    assert one.mask == PurePosixPath("/SegmentationClassAug/000.png")
    (two,) = read(images, "VOC2012/JPEGImages/a.b.png\n")
    assert (two.image, two.mask) == (images / "a.b.png", None)


def test_a_name_within_a_folder_keeps_it(images):
    (images / "2008").mkdir()
    (images / "2008" / "000.jpg").write_bytes(b"")
    assert [one.name for one in read(images, "2008/000\n000\n")] == ["2008/000", "000"]


def test_what_is_not_there_has_no_image(images):
    assert [(one.name, one.image) for one in read(images, "001\n002.jpg\n")] == [("001", None), ("002.jpg", None)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "names no image"),
        ("\ufeff\n", "names no image"),
        ("000\na.b\n000\n", "names 000 more than once, as 1 image(s): name each once"),
        ("000\n000.JPG\n", "names 000 more than once"),
        ("other/000.jpg", "names other/000.jpg, which is not in {images}: want names of images there, one a line"),
        (
            "JPEGImages/000.jpg masks/001.png",
            "names the mask masks/001.png for the image JPEGImages/000.jpg: want",
        ),
    ],
)
def test_what_is_refused(images, content, message):
    with pytest.raises(UserError) as refused:
        read(images, content)
    assert str(refused.value).startswith(f"{images.parent / 'train.txt'} {message.format(images=images)}")


def test_two_images_of_one_name(images):
    (images / "000.png").write_bytes(b"")
    assert [one.name for one in read(images, "a.b\n")] == ["a.b"]
    with pytest.raises(UserError) as refused:
        read(images, "000\n")
    both = f"{images / '000.JPG'} and {images / '000.png'}"
    assert str(refused.value) == f"there are two files {both} with the same name: keep one"


def test_text_of_any_system(tmp_path):
    for content in (b"a\n", codecs.BOM_UTF8 + b"a\n", codecs.BOM_UTF16_BE + "a\n".encode("utf-16-be")):
        (tmp_path / "a.txt").write_bytes(content)
        assert read_text(tmp_path / "a.txt") == "a\n"
