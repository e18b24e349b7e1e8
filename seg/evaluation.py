"""Predictions on a split: counted, scored, written as images."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm
from tabulate import tabulate
from torch import Tensor

from densedist.common.engine.ending import on_the_way
from densedist.common.modules import eval_mode
from densedist.common.task import Results, evaluate_each, metric_of_first
from densedist.seg.data.frames import Frame
from densedist.seg.datasets import test_sets
from densedist.seg.drawing import draw_confusion, write
from densedist.seg.labels import IGNORE, Classes
from densedist.seg.loader import test_loader
from densedist.seg.segmenter import Segmenter

logger = logging.getLogger(__name__)


def confusion_matrix(truth: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """Count pixels, rows = truth, columns = prediction.

    Args:
        truth: trainIds, integers of any shape; pixels of IGNORE are left out.
        prediction: trainIds below classes, of the same shape.

    Returns:
        int64 (classes, classes), on the tensors' device.
    """
    # IGNORE has a row of its own, far below: leaving it out here costs less than leaving out its pixels.
    pairs = (IGNORE + 1) * classes
    # Short numbers are counted five times as fast.
    dtype = torch.int16 if pairs <= torch.iinfo(torch.int16).max else torch.int64
    numbers = truth.flatten().to(dtype, copy=True).mul_(classes).add_(prediction.flatten().to(dtype))
    return torch.bincount(numbers, minlength=pairs)[: classes**2].view(classes, classes)


def scores(confusion: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return mIoU, mACC, pACC and each class's IoU, in percent.

    IoU is TP / (TP + FP + FN) over all images together, as Cityscapes counts it. A class that neither truth
    nor prediction has is undefined (NaN) and not part of the mean; nor, for mACC, is one without truth.

    Args:
        confusion: (K, K) as from confusion_matrix.
        names: the K class names.

    Returns:
        {"mIoU": …, "mACC": …, "pACC": …, "IoU-<class>": …}
    """
    confusion = confusion.double()
    hits, truth, predicted = confusion.diag(), confusion.sum(1), confusion.sum(0)
    iou = 100 * hits / (truth + predicted - hits)  # 0 / 0 is NaN
    accuracy = 100 * hits / truth
    result = {"mIoU": iou.nanmean(), "mACC": accuracy.nanmean(), "pACC": 100 * hits.sum() / truth.sum()}
    result |= {f"IoU-{name}": value for name, value in zip(names, iou, strict=True)}
    return {name: float(value) for name, value in result.items()}


class Evaluator(DatasetEvaluator):
    """Adds up the confusion matrix over the images of all processes; saves predictions where asked to.

    Args:
        classes: the data set's.
        output: folder for confusion.png and labelIds/*.png.
        save_label_ids: whether to write the latter.
        draws: whether to write the former.
    """

    def __init__(self, classes: Classes, output: Path, save_label_ids: bool = False, draws: bool = True) -> None:
        self.classes, self.output, self.save_label_ids, self.draws = classes, output, save_label_ids, draws
        self.reset()

    def reset(self) -> None:
        self._confusion = torch.zeros(len(self.classes), len(self.classes), dtype=torch.int64)
        self._unlabeled = 0

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for sample, output in zip(inputs, outputs, strict=True):
            prediction = output["sem_seg"].argmax(0)
            if "sem_seg" in sample:
                truth = sample["sem_seg"].to(prediction.device)
                # It stays where the model is: to fetch it would wait for the GPU at every image.
                self._confusion = self._confusion.to(prediction.device)
                self._confusion += confusion_matrix(truth, prediction, len(self.classes))
            else:
                self._unlabeled += 1
            self._save(sample, prediction.cpu().numpy())

    def _save(self, sample: dict, prediction: np.ndarray) -> None:
        if self.save_label_ids:
            label_ids = self.classes.label_ids[prediction]
            write(self.output / "labelIds" / f"{sample['name']}_pred_labelIds.png", label_ids)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Return {"sem_seg": scores in percent} on the main process; {} where no image has a label."""
        gathered = comm.gather((self._confusion.cpu(), self._unlabeled))
        if not comm.is_main_process():
            return None
        confusion: Tensor = sum(part for part, _ in gathered)
        if unlabeled := sum(part for _, part in gathered):
            logger.info(f"{unlabeled} images have no label and are not scored")
        if not confusion.any():
            if unlabeled == 0:
                logger.warning("nothing is scored: all pixels of the labels are ignored")
            return {}
        result = scores(confusion, self.classes.names)
        if self.draws:
            draw_confusion(confusion.numpy(), self.classes.names, self.output / "confusion.png")
        logger.info("IoU of each class, in percent\n" + _table(self.classes.names, confusion, result))
        logger.info(", ".join(f"{name} {result[name]:.2f}" for name in ("mIoU", "mACC", "pACC")))
        return {"sem_seg": result}


def evaluate(cfg: CfgNode, model: Segmenter, most: int | None = None) -> Results:
    """Return scores in percent on every split of DATASETS.TEST: {"sem_seg": {"mIoU": …}}; if several, by split.

    {} for one without labels, and on all processes but the main one.

    Args:
        most: only so many images of each split, from the first.
    """
    frames = test_sets(cfg)
    return evaluate_each(list(frames), lambda name: _evaluate(cfg, model, name, frames[name][:most]))


def _evaluate(cfg: CfgNode, model: Segmenter, name: str, frames: Sequence[Frame]) -> Results:
    output = Path(cfg.OUTPUT_DIR, "inference")
    if len(cfg.DATASETS.TEST) > 1:  # each has a folder of its own, even one that is named by a path
        output /= name.replace("/", "_")
        logger.info(f"results on {name}")
    evaluator = Evaluator(Classes.of(cfg), output, cfg.TEST.SAVE_LABEL_IDS, draws=not on_the_way(cfg))
    with eval_mode(model):
        return inference_on_dataset(model, test_loader(cfg, frames), evaluator) or {}


def metric(cfg: CfgNode) -> str:
    """Return the name of the metric that the best model is chosen by: the first test set's mIoU."""
    return metric_of_first(cfg.DATASETS.TEST, "sem_seg/mIoU")


def is_scored(cfg: CfgNode) -> bool:
    """Return whether there are test sets, and each of them has labels."""
    sets = test_sets(cfg).values()
    return bool(sets) and all(any(frame["label"] for frame in frames) for frames in sets)


def _table(names: Sequence[str], confusion: Tensor, result: dict[str, float]) -> str:
    rows = [
        [name, f"{result[f'IoU-{name}']:.2f}", int(pixels)]
        for name, pixels in zip(names, confusion.sum(1), strict=True)
    ]
    return tabulate(rows, ["class", "IoU", "pixels"], tablefmt="pipe")
