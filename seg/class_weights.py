"""Class weights: MODEL.CLASS_WEIGHTS, or computed from class frequencies (MODEL.CLASS_BALANCE)."""

import logging
from collections.abc import Callable, Mapping

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils import comm

from densedist.common.data.confidence import Confidence
from densedist.common.errors import on_main_process
from densedist.seg.data.reading import Reader, count_pixels
from densedist.seg.datasets import labeled_frames
from densedist.seg.labels import Classes

logger = logging.getLogger(__name__)


def median_frequency(pixels: np.ndarray) -> np.ndarray:
    """Return the median frequency divided by the class's own: Eigen and Fergus's balancing (ICCV 2015).

    A frequency is the class's part of the labeled pixels in those images that have it. A class without a pixel, which
    no loss asks for, has weight 1 and is not in the median.

    Args:
        pixels: (n, K), of each class in each of n images.
    """
    there = (pixels > 0) * pixels.sum(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        frequency = pixels.sum(0) / there.sum(0)
    return np.nan_to_num(np.nanmedian(frequency) / frequency, nan=1.0)


def inverse_log(pixels: np.ndarray) -> np.ndarray:
    """Return 1 / ln(1.02 + p), p the class's part of all labeled pixels: ENet (Paszke et al., 2016); 1.4 to 50.5.

    Args:
        pixels: (n, K), of each class in each of n images.
    """
    return 1 / np.log(1.02 + pixels.sum(0) / pixels.sum())


BALANCES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "median_frequency": median_frequency,
    "inverse_log": inverse_log,
}


def class_weights(cfg: CfgNode) -> list[float]:
    """Return a weight for each class; empty = all 1. To balance, one process reads the labels of DATASETS.TRAIN
    and PSEUDO_LABELED.

    The same labels give the same weights, so that a run that goes on has those that it began with.

    Raises:
        UserError: labels that cannot be read.
    """
    name, found = cfg.MODEL.CLASS_BALANCE, list(map(float, cfg.MODEL.CLASS_WEIGHTS))
    if name == "none":
        return found

    def count() -> None:
        classes = Classes.of(cfg)
        read = Reader(classes, cfg.INPUT.FORMAT, confidence=Confidence.of(cfg))
        pixels = count_pixels(read, labeled_frames(cfg), "MODEL.CLASS_BALANCE")[:, : len(classes)]
        found.extend(BALANCES[name](pixels).tolist())
        shown = ", ".join(f"{one} {weight:.3g}" for one, weight in zip(classes.names, found, strict=True))
        logger.info(f"MODEL.CLASS_BALANCE {name}, of {len(pixels)} labels: {shown}")

    on_main_process(count)
    weights: list[float] = comm.all_gather(found)[0]
    return weights
