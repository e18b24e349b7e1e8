"""Detectron2's samplers of training images: the keys without which one of them does nothing, or fails."""

from detectron2.config import CfgNode

from densedist.common.data.sides import labeled_sets
from densedist.common.errors import UserError

KEY = "DATALOADER.SAMPLER_TRAIN"
SAMPLERS = (
    "TrainingSampler",
    "RepeatFactorTrainingSampler",
    "RandomSubsetTrainingSampler",
    "WeightedTrainingSampler",
    "WeightedCategoryTrainingSampler",
)


def check_sampler(cfg: CfgNode) -> None:
    """Refuse a sampler whose keys are not set.

    Raises:
        UserError: naming the key that it needs.
    """
    name, loader = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER
    if name in ("RepeatFactorTrainingSampler", "WeightedCategoryTrainingSampler") and loader.REPEAT_THRESHOLD <= 0:
        raise _lacks(name, "DATALOADER.REPEAT_THRESHOLD", "the share of images below which a class is rare, e.g. 0.001")
    if name == "RandomSubsetTrainingSampler" and not loader.RANDOM_SUBSET_RATIO:
        raise _lacks(name, "DATALOADER.RANDOM_SUBSET_RATIO", "the share of images that are trained on, e.g. 0.1")
    if name.startswith("Weighted"):
        factors = cfg.DATASETS.TRAIN_REPEAT_FACTOR
        if not factors:
            raise _lacks(
                name, "DATASETS.TRAIN_REPEAT_FACTOR", "[data set, factor] of each, e.g. [['cells_train', 2.0]]"
            )
        if strange := [entry[0] for entry in factors if entry[0] not in labeled_sets(cfg)]:
            data = "DATASETS.TRAIN or PSEUDO_LABELED"
            raise UserError(f"DATASETS.TRAIN_REPEAT_FACTOR: {strange[0]} is not in {data}: name one of these")
        if cfg.DATASETS.DROP_BAD_BOXES:
            raise UserError(f"{KEY} is {name}, which counts images of bad boxes: set DATASETS.DROP_BAD_BOXES to False")
        if cfg.PSEUDO_LABELS.MIN_SCORE and loader.FILTER_EMPTY_ANNOTATIONS:
            raise UserError(
                f"{KEY} is {name}, which counts images whose labels are all below PSEUDO_LABELS.MIN_SCORE: set that "
                "to 0, or DATALOADER.FILTER_EMPTY_ANNOTATIONS to False"
            )


def is_factors(value: object) -> bool:
    """Return whether it is a list of [data set, factor]."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(entry, (list, tuple))
        and len(entry) == 2
        and isinstance(entry[0], str)
        and type(entry[1]) in (int, float)
        and entry[1] > 0
        for entry in value
    )


def _lacks(sampler: str, key: str, what: str) -> UserError:
    return UserError(f"{KEY} is {sampler}, which needs {key}: set it to {what}, or take TrainingSampler")
