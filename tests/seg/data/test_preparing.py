"""densedist prepare: the same data set, uncompressed."""

import os
import shutil
from collections import namedtuple

import cv2
import numpy as np
import pytest
from PIL import Image

from densedist.common.errors import UserError
from densedist.seg.data.frames import frames
from densedist.seg.data.preparing import prepare
from densedist.seg.data.reading import Reader
from densedist.seg.labels import Classes
from helpers.calling import complaint, densedist
from helpers.scenes import write_tree

CLASSES = Classes([{"name": "all", "ids": list(range(34)), "color": [0, 0, 0]}], [255])


def samples(root, split="train"):
    reader = Reader(CLASSES, "RGB")
    return [reader.read(frame) for frame in frames(str(root), split, "DATASETS.TRAIN", False)]


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    write_tree(folder, count=3)
    write_tree(folder, "test", labels=False)
    # A JPEG, an image in gray, and a label with a palette.
    first, second, _ = sorted(folder.glob("leftImg8bit/train/*/*.png"))
    cv2.imwrite(str(first.with_suffix(".jpg")), cv2.imread(str(first)))
    first.unlink()
    Image.open(second).convert("L").save(second)
    label = next(iter(sorted(folder.glob("gtFine/train/*/*_labelIds.png"))))
    with Image.open(label) as image:
        numbers = np.asarray(image)
    palette = Image.fromarray(numbers, "P")
    palette.putpalette([value for n in range(256) for value in (255 - n, n, 7)])
    palette.save(label)
    return folder


def test_same_pixels_under_the_same_names(source, tmp_path, capsys):
    output = tmp_path / "prepared"
    densedist("prepare", "seg", source, "--output-dir", output)
    assert f"{output}: 8 files; train with DATASETS.ROOT" in capsys.readouterr().out
    for split in ("train", "test"):
        seen, wanted = samples(output, split), samples(source, split)
        assert len(seen) == len(wanted) > 1
        for (image, label), (wanted_image, wanted_label) in zip(seen, wanted, strict=True):
            assert np.array_equal(image, wanted_image)
            assert (label is wanted_label is None) or np.array_equal(label, wanted_label)
    assert {file.suffix for file in output.rglob("*.*")} == {".bmp"}


def test_what_is_there_stays_until_its_source_changes(source, tmp_path):
    output = tmp_path / "prepared"
    assert prepare(source, output) == (8, 0)
    first = min(output.rglob("*_leftImg8bit.bmp"))
    first.unlink()
    assert prepare(source, output) == (8, 7)
    assert first.is_file()
    changed = max(source.glob("leftImg8bit/train/*/*.png"))
    cv2.imwrite(str(changed), 255 - cv2.imread(str(changed)))
    os.utime(changed, (changed.stat().st_atime, max(x.stat().st_mtime for x in output.rglob("*.bmp")) + 1))
    assert prepare(source, output) == (8, 7)
    assert np.array_equal(samples(output)[-1][0], samples(source)[-1][0])


def test_what_cannot_be_prepared(source, tmp_path, capsys, monkeypatch):
    output = tmp_path / "prepared"
    (tmp_path / "nothing").mkdir()
    assert "no image in" in complaint(capsys, "prepare", "seg", tmp_path / "nothing", "--output-dir", output)
    assert "itself: name another folder" in complaint(capsys, "prepare", "seg", source, "--output-dir", source)
    usage = namedtuple("Usage", "free")(1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        assert "GB are needed, 0.0 GB are free" in complaint(capsys, "prepare", "seg", source, "--output-dir", output)
    image = max(source.glob("leftImg8bit/train/*/*.png"))
    image.write_bytes(image.read_bytes()[:-100])
    with pytest.raises(UserError, match="is damaged: "):
        prepare(source, output)
    image.write_text("nothing")
    assert "cannot be read as an image" in complaint(capsys, "prepare", "seg", source, "--output-dir", output)


def test_two_files_of_one_image(source):
    image = max(source.glob("leftImg8bit/train/*/*.png"))
    shutil.copy(image, image.with_suffix(".bmp"))
    with pytest.raises(UserError, match=r"several images .*\.\*: want one"):
        frames(str(source), "train", "DATASETS.TRAIN", True)
