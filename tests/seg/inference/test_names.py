"""What is written about an image is a file of its own, also where two have the same name."""

import shutil

import pytest
import torch

from densedist.common.run_files import locate
from densedist.seg.data.reading import Reader
from densedist.seg.datasets import test_frames as frames_to_test
from densedist.seg.evaluation import Evaluator
from densedist.seg.inference.predict import predict_images
from densedist.seg.labels import Classes
from helpers.scenes import STUDENT, config, save_teacher, write_tree


@pytest.fixture
def cfg(tmp_path):
    """Two frames in a town, the same files in another, one of them in another split."""
    root = write_tree(tmp_path / "data", "val")
    for kind, suffix in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
        shutil.copytree(root / kind / "val" / "town", root / kind / "val" / "village")
        folder = root / kind / "more" / "town"
        folder.mkdir(parents=True)
        shutil.copy(root / kind / "val" / "town" / f"town_000000_000001_{suffix}.png", folder)
    classes = [{"name": name, "ids": [number], "color": [9, 9, number]} for name, number in (("a", 7), ("b", 8))]
    keys = ["DATASETS.ROOT", root, "DATASETS.TEST", "['val', 'more']", "DATASETS.IGNORED_IDS", "[0, 255]"]
    return config(STUDENT, *keys, "DATASETS.CLASSES", classes)


def test_frames_of_two_towns_and_splits(cfg):
    first, second = "town_000000_000000", "town_000000_000001"
    names = [first, second, f"{first}-2", f"{second}-2", f"{second}-3"]
    assert [frame["name"] for frame in frames_to_test(cfg)] == names
    cfg.DATASETS.TEST = ["val[:2]"]
    assert [frame["name"] for frame in frames_to_test(cfg)] == [first, second]


def test_each_frame_has_its_predicted_labels(cfg, tmp_path):
    read = Reader(Classes.of(cfg), "RGB")
    evaluator = Evaluator(Classes.of(cfg), tmp_path, save_label_ids=True)
    for frame in frames_to_test(cfg):
        sample = read(frame)
        evaluator.process([sample], [{"sem_seg": torch.zeros(2, sample["height"], sample["width"])}])
    assert len(list((tmp_path / "labelIds").iterdir())) == 5


def test_predictions_of_what_was_predicted_before(cfg, tmp_path):
    """A folder with pictures, labels of the same names and a legend."""
    run, folder, output = tmp_path / "run", tmp_path / "images", tmp_path / "out"
    save_teacher(run, file=STUDENT)
    (run / "weights.pth").rename(run / "model_final.pth")
    (folder / "labelIds").mkdir(parents=True)
    for name in ("x", "labelIds/x", "legend"):
        shutil.copy(frames_to_test(cfg)[0]["image"], folder / f"{name}.png")
    found = predict_images(locate(str(run)), [str(folder)], output, None)
    assert len(found) == 3
    written = {str(file.relative_to(output)) for file in output.rglob("*.png")}
    labels = {"labelIds/x.png", "labelIds/legend-2.png", "labelIds/labelIds/x-2.png"}
    assert written == {"legend.png", "legend-2.png", "x.png", "labelIds/x-2.png", *labels}
