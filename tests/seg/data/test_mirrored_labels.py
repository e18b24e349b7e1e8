"""INPUT.FLIP_PAIRS in segmentation: labels, kept logits and predictions of mirror images, swapped."""

import numpy as np
import pytest
import torch

from densedist.common.errors import UserError
from densedist.seg.cache import CachedReader
from densedist.seg.checks import check_data
from densedist.seg.data.transforms import TrainingTransform, training_transform
from densedist.seg.labels import IGNORE
from densedist.seg.models import read_config
from densedist.seg.networks.resampling import Grid, sample_at
from densedist.seg.networks.windows import Inference
from helpers.scenes import STUDENT, config, write_tree

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (16, 24, 3)).astype(np.uint8)
LABEL = RNG.choice([0, 1, 2, IGNORE], (16, 24)).astype(np.uint8)
ORDER = [0, 2, 1]  # 1 and 2 are left and right
SWAPPED = np.select([LABEL == 1, LABEL == 2], [2, 1], LABEL.astype(int))[:, ::-1]


def mirroring(crop=(16, 24)):
    return TrainingTransform([1.0], crop, True, (0, 0, 0), mirrored_classes=ORDER)


def seen(transform):
    """Samples of the image itself and of its mirror image, with their places."""
    np.random.seed(0)
    samples = [transform.with_coordinates(IMAGE, LABEL) for _ in range(12)]
    mirrored = [np.array_equal(image, IMAGE[:, ::-1]) for image, *_ in samples]
    return samples[mirrored.index(False)], samples[mirrored.index(True)]


def test_labels_of_mirror_images():
    (_, plain, _), (_, mirrored, _) = seen(mirroring())
    assert np.array_equal(plain, LABEL)
    assert np.array_equal(mirrored, SWAPPED)


class Kept:
    """Logits of whole images, as the cache has them."""

    about = ({"size": (16, 24)},)

    def __init__(self, maps):
        self.maps = maps

    def read(self, number):
        return self.maps


class Still:
    """A reader of one image."""

    def read(self, frame):
        return IMAGE, LABEL


def test_kept_logits_of_mirror_images():
    """Class 1's channel is 1 where the label is 1: the sample's channels lie on the sample's label."""
    one_hot = torch.from_numpy(np.stack([LABEL == n for n in range(3)])).float()
    maps = {"cls_logits": one_hot, "kept_mass": torch.ones(1)}
    reader = CachedReader(Still(), mirroring(), {"a": (Kept(maps), 0)})
    np.random.seed(0)
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    sides = set()
    for _ in range(12):
        sample = reader({"name": "a", "image": "a", "label": "a"})
        # A place of the sample for each pixel, then the logits there.
        at = sample_at(sample["coordinates"], torch.stack([x, y]), Grid((16, 24)))
        logits = sample_at(sample["teacher"]["cls_logits"], at, Grid((16, 24)))
        label = sample["sem_seg"]
        for number in range(3):
            assert torch.allclose(logits[number], (label == number).float(), atol=1e-3)
        assert torch.equal(sample["teacher"]["kept_mass"], torch.ones(1))
        sides.add(np.array_equal(sample["image"].permute(1, 2, 0), IMAGE))
    assert sides == {True, False}


def rising(image):
    """Logits (3, H, W) of a model that tells left from right: class 1 where the image rises to the right, else 2."""
    step = image[0, :, 1:].float() - image[0, :, :-1].float()
    left = torch.cat([step, step[:, -1:]], 1) + torch.cat([step[:, :1], step], 1) > 0
    return torch.stack([torch.full(left.shape, -50.0), left * 10.0, ~left * 10.0])


def test_predictions_of_mirror_images():
    ramp = torch.arange(24.0).expand(3, 16, 24)
    plain = Inference()(rising, ramp)
    assert torch.allclose(Inference(flip=True, mirrored_classes=ORDER)(rising, ramp), plain)
    assert not torch.allclose(Inference(flip=True)(rising, ramp), plain, atol=0.3)


CLASSES = [{"name": name, "ids": [n], "color": [n, n, n]} for n, name in enumerate(["skin", "left eye", "right eye"])]
PAIRS = "[['left eye', 'right eye']]"


def test_the_key_is_read_for_training_and_prediction(tmp_path):
    cfg = config(STUDENT, "DATASETS.CLASSES", str(CLASSES), "INPUT.FLIP_PAIRS", PAIRS)
    assert training_transform(cfg).mirrored_classes == Inference.of(cfg).mirrored_classes == ORDER
    with pytest.raises(UserError, match=r"INPUT.FLIP_PAIRS: there is no class left ear: want names among skin"):
        read_config(str(STUDENT), ["INPUT.FLIP_PAIRS", "[['left ear', 'right eye']]", "DATASETS.CLASSES", str(CLASSES)])
    with pytest.raises(UserError, match=r"INPUT.FLIP_PAIRS is \['left', 'right'\]: want pairs of names of classes"):
        read_config(str(STUDENT), ["INPUT.FLIP_PAIRS", "['left', 'right']"])
    mirrors = ["INPUT.ALBUMENTATIONS", "[{'OneOf': {'transforms': [{'D4': {}}]}}]", "DATASETS.CLASSES", str(CLASSES)]
    with pytest.raises(UserError) as refused:
        read_config(str(STUDENT), [*mirrors, "INPUT.FLIP_PAIRS", PAIRS, "MODEL.CLASS_WEIGHTS", "[]"])
    assert str(refused.value) == (
        "INPUT.ALBUMENTATIONS: D4 mirrors images and swaps no classes, but INPUT.FLIP_PAIRS names some: leave it out, "
        "and set INPUT.RANDOM_FLIP to horizontal"
    )


def test_sides_without_pairs_are_a_warning_before_training(tmp_path, caplog):
    root = write_tree(tmp_path, ids=(0, 1, 2))
    keys = ["DATASETS.ROOT", root, "DATASETS.CLASSES", str(CLASSES), "DATASETS.TEST", "['train']"]

    def warned(*more):
        caplog.clear()
        check_data(config(STUDENT, *keys, *more))
        return [message.split(" shows ")[0] for message in caplog.messages]

    assert warned("INPUT.RANDOM_FLIP", "horizontal") == ["INPUT.RANDOM_FLIP"]
    assert warned("INPUT.RANDOM_FLIP", "none") == []
    assert warned("INPUT.RANDOM_FLIP", "none", "TEST.FLIP", "True") == ["TEST.FLIP"]
    own = ["INPUT.ALBUMENTATIONS", "[{'HorizontalFlip': {}}]"]
    assert warned("INPUT.RANDOM_FLIP", "none", *own) == ["INPUT.ALBUMENTATIONS"]
    assert warned("INPUT.RANDOM_FLIP", "horizontal", "TEST.FLIP", "True", "INPUT.FLIP_PAIRS", PAIRS) == []
