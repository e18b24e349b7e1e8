"""DATALOADER.SAMPLER_TRAIN with the keys that its values need, and without them."""

import pytest

from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition
from densedist.det import checks
from densedist.det.data.registering import register_declared
from densedist.det.loader import training_batches
from helpers.tiny import STUDENT, config

NEEDS = {
    "RepeatFactorTrainingSampler": ("DATALOADER.REPEAT_THRESHOLD", "0.5"),
    "RandomSubsetTrainingSampler": ("DATALOADER.RANDOM_SUBSET_RATIO", "0.25"),
    "WeightedTrainingSampler": ("DATASETS.TRAIN_REPEAT_FACTOR", "[['digits_train', 2]]"),
    "WeightedCategoryTrainingSampler": ("DATASETS.TRAIN_REPEAT_FACTOR", "[['digits_train', 2]]"),
}


@pytest.mark.parametrize("name", NEEDS)
def test_a_sampler_with_its_key_and_without(name):
    train = ["DATASETS.TRAIN", "('digits_train',)", "DATALOADER.SAMPLER_TRAIN", name]
    both = ["DATALOADER.REPEAT_THRESHOLD", "0.5"] if "Category" in name else []
    cfg = config(STUDENT, *train, *both)
    with pytest.raises(UserError) as refused:
        checks.check_data(cfg, "TRAIN")
    key, value = NEEDS[name]
    assert str(refused.value).startswith(f"DATALOADER.SAMPLER_TRAIN is {name}, which needs {key}: set it to ")
    assert str(refused.value).endswith(", or take TrainingSampler")
    cfg = config(STUDENT, *train, *both, key, value)
    register_declared(cfg)
    checks.check_data(cfg, "TRAIN")
    batches = iter(training_batches(cfg)(RunPosition(0)))
    seen = {sample["image_id"] for _ in range(12) for sample in next(batches)}
    assert (len(seen) == 3) == (name == "RandomSubsetTrainingSampler")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (
            ["DATASETS.TRAIN_REPEAT_FACTOR", "[['other', 2]]"],
            "DATASETS.TRAIN_REPEAT_FACTOR: other is not in DATASETS.TRAIN or PSEUDO_LABELED: name one of",
        ),
        (
            ["DATASETS.TRAIN_REPEAT_FACTOR", "[['digits_train', 2]]", "DATASETS.DROP_BAD_BOXES", "True"],
            "DATALOADER.SAMPLER_TRAIN is WeightedTrainingSampler, which counts images of bad boxes: set",
        ),
        (
            ["DATASETS.TRAIN_REPEAT_FACTOR", "[['digits_train', 2]]", "PSEUDO_LABELS.MIN_SCORE", "0.5"],
            "DATALOADER.SAMPLER_TRAIN is WeightedTrainingSampler, which counts images whose labels are all below",
        ),
        (
            ["DATASETS.TRAIN_REPEAT_FACTOR", "[['digits_train']]"],
            "DATASETS.TRAIN_REPEAT_FACTOR is [['digits_train']]:",
        ),
        (["DATALOADER.RANDOM_SUBSET_RATIO", "1.5"], "DATALOADER.RANDOM_SUBSET_RATIO is 1.5: want a share, 0 (not set)"),
    ],
)
def test_keys_that_mean_nothing(words, wanted):
    named = ["DATASETS.TRAIN", "('digits_train',)", "DATALOADER.SAMPLER_TRAIN", "WeightedTrainingSampler"]
    with pytest.raises(UserError) as refused:
        checks.check_data(config(STUDENT, *named, *words), "TRAIN")
    assert str(refused.value).startswith(wanted)
