"""Segmentation: what training and scoring are given of data, beside the truth."""

from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import nn

from densedist.common.randomness import RunPosition
from densedist.seg.task import TASK
from referee.judge import RefusedError, close, refusing, scene_of, write_config
from referee.scenes import IGNORED, World
from referee.situations import Handed, Situation

PLANTED = ("none", "none", "a column", "a class")
NO_LABEL = 255  # of sem_seg, by Detectron2's convention


def look(run: Path, handed: Handed, world: World, situation: Situation) -> None:
    """Compare all that is read with the truth.

    Raises:
        RefusedError: the suite refuses it.
        AssertionError: a difference.
    """
    usual = {
        "MODEL": {"DEVICE": "cpu"},
        "INPUT": {"SCALES": [1.0], "CROP_SIZE": [64, 64], "RANDOM_FLIP": "none"},
        "SOLVER": {"IMS_PER_BATCH": 1},
        "DATALOADER": {"NUM_WORKERS": 0},
        "OUTPUT_DIR": str(run / "output"),
    }
    file = write_config(run / "config.yaml", usual, handed.config)
    with refusing():
        cfg = TASK.load_config(file, [])
        TASK.check_data(cfg)
    assert not (run / "output").exists(), "the output folder is made before the data is looked at"
    _check_samples(cfg, handed, world)
    _check_counts(cfg, world, handed)
    _check_scores(cfg, handed, world, situation)


def _truth(world: World, number: int) -> np.ndarray:
    labels = world.scenes[number].labels
    return np.where(labels == IGNORED, NO_LABEL, labels).astype(np.int64)


def _check_samples(cfg: CfgNode, handed: Handed, world: World) -> None:
    batches = iter(TASK.training_batches(cfg)(RunPosition(0)))
    seen = []
    for _ in world.scenes:
        (sample,) = next(batches)
        height, width = sample["height"], sample["width"]
        # From the top left corner on; the rest is padding.
        image = sample["image"].numpy().transpose(1, 2, 0)
        size = next((s.size for s in world.scenes if (image[: s.size[0], : s.size[1]].shape[:2]) == s.size), None)
        assert size is not None, f"an image of {height}x{width}"
        number = _scene_in(image, handed)
        seen.append(number)
        truth = _truth(world, number)
        label = sample["sem_seg"].numpy()
        assert (label[truth.shape[0] :] == NO_LABEL).all(), "padding counts"
        assert (label[:, truth.shape[1] :] == NO_LABEL).all(), "padding counts"
        _check_labels(label[: truth.shape[0], : truth.shape[1]], truth, number)
    assert sorted(seen) == list(range(len(world.scenes))), f"trained on the scenes {sorted(seen)}"


def _scene_in(image: np.ndarray, handed: Handed) -> int:
    best = []
    for number, wanted in enumerate(handed.images):
        height, width = wanted.shape[:2]
        part = image[:height, :width]
        off = np.abs(part.astype(int) - wanted.astype(int)).max()
        if off <= handed.level:
            return number
        best.append(int(off))
    raise AssertionError(f"pixels that are of no image; levels that they are off, by scene: {best}")


def _check_labels(label: np.ndarray, truth: np.ndarray, number: int) -> None:
    if not np.array_equal(label, truth):
        pairs, count = np.unique(np.stack([truth[label != truth], label[label != truth]]), axis=1, return_counts=True)
        told = ", ".join(
            f"{c} pixels of {a} as {b}" for (a, b), c in zip(pairs.T.tolist(), count.tolist(), strict=True)
        )
        raise AssertionError(f"scene {number}: {told}")


def _check_counts(cfg: CfgNode, world: World, handed: Handed) -> None:
    survey = TASK.survey(cfg, "TRAIN")
    labels = np.concatenate([scene.labels.ravel() for scene in world.scenes])
    wanted = {name: int((labels == number).sum()) for number, name in enumerate(world.names)}
    wanted["(ignored)"] = int((labels == IGNORED).sum())
    assert dict(survey.classes) == wanted, f"counted {dict(survey.classes)}, there are {wanted}"
    assert survey.sizes.total() == survey.labeled == len(world.scenes)


class _Oracle(nn.Module):
    """Predicts what it is told for the scene that it sees."""

    def __init__(self, handed: Handed, predictions: list[np.ndarray], classes: int) -> None:
        super().__init__()
        self.handed, self.predictions, self.classes = handed, predictions, classes

    def forward(self, samples: list[dict]) -> list[dict]:
        results = []
        for sample in samples:
            number = scene_of(sample["image"].numpy().transpose(1, 2, 0), self.handed)
            one_hot = np.eye(self.classes, dtype=np.float32)[self.predictions[number]]
            results.append({"sem_seg": torch.from_numpy(one_hot.transpose(2, 0, 1))})
        return results


def _check_scores(cfg: CfgNode, handed: Handed, world: World, situation: Situation) -> None:
    predictions = _predictions(world, situation)
    results = TASK.evaluate(cfg, _Oracle(handed, predictions, len(world.names)))["sem_seg"]
    confusion = np.zeros((len(world.names),) * 2)
    for scene, prediction in zip(world.scenes, predictions, strict=True):
        counts = scene.labels != IGNORED
        np.add.at(confusion, (scene.labels[counts], prediction[counts]), 1)
    hits, truth, found = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid="ignore"):
        iou = 100 * hits / (truth + found - hits)
    wanted = {"mIoU": float(np.nanmean(iou)), "pACC": 100 * hits.sum() / truth.sum()}
    wanted |= {f"IoU-{name}": float(value) for name, value in zip(world.names, iou, strict=True)}
    assert list(results) == ["mIoU", "mACC", "pACC", *(f"IoU-{name}" for name in world.names)]
    wrong = {name: (results[name], value) for name, value in wanted.items() if not close(results[name], value)}
    assert not wrong, f"scores (read, right): {wrong}"
    assert situation.planted != "none" or results["mIoU"] == 100


def _predictions(world: World, situation: Situation) -> list[np.ndarray]:
    predictions = [np.where(scene.labels == IGNORED, 0, scene.labels).astype(np.int64) for scene in world.scenes]
    if situation.planted == "a column":
        predictions[-1][:, -1] = (predictions[-1][:, -1] + 1) % len(world.names)
    if situation.planted == "a class":
        predictions[0][predictions[0] == 0] = 1
    return predictions


__all__ = ["PLANTED", "RefusedError", "look"]
