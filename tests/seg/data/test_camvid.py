"""densedist prepare camvid: SegNet's folders in Cityscapes' format, at half their size."""

import cv2
import numpy as np
import pytest

from densedist.common.config import load
from densedist.seg.config import GRAMMAR
from densedist.seg.data.reading import Reader
from densedist.seg.datasets import training_frames
from densedist.seg.labels import IGNORE, Classes
from helpers.calling import complaint, densedist
from helpers.scenes import CONFIGS

SEGNET = ["sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence", "car", "person"]
SEGNET += ["bicyclist"]


@pytest.fixture
def source(tmp_path):
    """Two frames of 12 squares of 2x2 pixels, one for each number that a mask can have."""
    folder = tmp_path / "CamVid"
    for name in ("train", "trainannot"):
        (folder / name).mkdir(parents=True)
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4).repeat(2, 0).repeat(2, 1)
    for number, name in enumerate(("0001TP_006690", "Seq05VD_f00030")):
        pixels = np.stack([numbers * 20, numbers * 10, numbers * 0 + number], 2)
        cv2.imwrite(str(folder / "train" / f"{name}.png"), pixels)
        cv2.imwrite(str(folder / "trainannot" / f"{name}.png"), numbers)
    return folder


def test_the_recipe_reads_what_is_written(source, tmp_path, capsys):
    densedist("prepare", "camvid", source, "--output-dir", tmp_path / "out")
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: 2 frames; train with DATASETS.ROOT {tmp_path / 'out'}\n"
    keys = ["DATASETS.ROOT", str(tmp_path / "out"), "DATASETS.TRAIN", "['train']"]
    cfg = load(GRAMMAR, str(CONFIGS / "camvid" / "pspnet_r10_quarter.yaml"), keys)
    classes = Classes.of(cfg)
    frames = training_frames(cfg)
    assert [frame["name"] for frame in frames] == ["0001TP_000000_006690", "Seq05VD_000000_000030"]
    for number, frame in enumerate(frames):
        image, label = Reader(classes, "BGR").read(frame)
        numbers = np.arange(12).reshape(3, 4)
        assert np.array_equal(image, np.stack([numbers * 20, numbers * 10, numbers * 0 + number], 2))
        seen = [IGNORE if n == IGNORE else classes.names[n] for n in label.ravel()]
        assert seen == [*SEGNET, IGNORE]


def test_other_folders_and_masks_are_refused(source, tmp_path, capsys):
    argv = ("prepare", "camvid", source, "--output-dir", tmp_path / "out")
    mask = source / "trainannot" / "0001TP_006690.png"
    cv2.imwrite(str(mask), np.full((6, 8), 12, np.uint8))
    assert complaint(capsys, *argv) == f"{mask} has the number 12: want those of SegNet's 11 classes, and 11 for none"
    mask.unlink()
    assert complaint(capsys, *argv).startswith("train: 1 of 2 images have no mask of the same name in")
    (source / "trainannot").rename(source / "labels")
    assert complaint(capsys, *argv) == (
        f"there is no CamVid in {source}: want the folders train and trainannot, val and valannot or test and testannot"
    )
