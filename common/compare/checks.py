"""Refuse, before several methods are trained, what cannot be compared."""

from collections.abc import Sequence

from detectron2.config import CfgNode

from densedist.common.compare.methods import has_labels
from densedist.common.compare.names import NONE
from densedist.common.distill.registry import is_on
from densedist.common.distill.sources import pseudo_labeled_images
from densedist.common.errors import UserError
from densedist.common.task import Task


def refuse_seed(overrides: Sequence[str]) -> None:
    """Refuse overrides that have a SEED: all runs would have the same.

    Raises:
        UserError: the overrides have a SEED, by which all seeds would be one.
    """
    if "SEED" in overrides[::2]:
        raise UserError("SEED would give all runs the same seed: remove it, and give --seeds")


def check_scores(task: Task, cfg: CfgNode, key: str = "DATASETS.TEST") -> None:
    """Refuse a config whose DATASETS.TEST has no labels to compare by.

    Args:
        key: what names the data, for messages.

    Raises:
        UserError: it has not, or is empty.
    """
    if not cfg.DATASETS.TEST:
        raise UserError(f"{key} is empty: name a data set to compare on")
    if not task.is_scored(cfg):
        names = ", ".join(cfg.DATASETS.TEST)
        bare = f"{names} has no labels" if len(cfg.DATASETS.TEST) == 1 else f"not all of {names} have labels"
        raise UserError(f"{key}: methods cannot be scored: {bare}")


def check_method(task: Task, cfg: CfgNode, method: str) -> None:
    """Refuse a method whose student cannot be built or learns nothing from a teacher.

    Raises:
        UserError: a method without a teacher or a loss, a teacher that is not there, a loss on a tap that this pair
            does not have, a share of labels that is no whole number of images.
    """
    if method == NONE:
        return
    if has_labels(method):
        if not cfg.DISTILL.TEACHER.WEIGHTS:
            raise UserError(f"--methods: {method} has no teacher: set DISTILL.TEACHER")
        pseudo_labeled_images(cfg)
    elif not is_on(cfg.DISTILL):
        raise UserError(f"--methods: {method} has no teacher or no loss: set DISTILL.TEACHER, or join a loss to it")
    task.build(cfg)
