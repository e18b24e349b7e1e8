"""Labels that teachers write for any images: a split in Cityscapes' format that a student trains on as on any other."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor
from tqdm import tqdm

from densedist.common.data.headers import read_header
from densedist.common.data.images import unique_names
from densedist.common.errors import UserError
from densedist.common.files import write_text
from densedist.common.labeling import (
    FREQUENCIES,
    RECORD,
    Calibration,
    Labeling,
    check_same_names,
    numbers_of_student,
    option_of,
    read_way,
    warn_of_bare,
)
from densedist.common.logging import on_terminal
from densedist.common.shell import quoted
from densedist.seg.data.frames import IMAGES, LABELS, Frame, bare_frames, scores_file
from densedist.seg.data.reading import Reader, count_pixels
from densedist.seg.datasets import IGNORED_ID, LABEL_IDS, test_frames, training_frames, unlabeled_frames
from densedist.seg.drawing import to_rgb, write
from densedist.seg.inference.predict import refuse_whole
from densedist.seg.labels import IGNORE, UNKNOWN, Classes
from densedist.seg.models import Trained, load_trained

SPLIT, CITY = "train", "images"


def label_images(labeling: Labeling) -> None:
    """Write leftImg8bit/train and gtFine/train in the output folder, and what is known of them.

    A pixel has the class of the highest mean probability over the teachers; where that is below the score, or the
    student does not have the class, its labelId is the first of DATASETS.IGNORED_IDS, or one that is free. The
    probability of the highest class, times 255, is in a PNG of its own. The images are links to PNG files, and copies
    in PNG of all others.

    Raises:
        UserError: wrong weights, teachers of different classes or without one of the student's, a folder that has
            files, no labels to choose by.
    """
    if labeling.ignore is not None:
        raise UserError("--ignore-threshold is for detectors: pixels below --score-threshold are ignored without it")
    teachers = [load_trained(weights) for weights in labeling.teachers]
    classes = teachers[0].classes
    check_same_names([teacher.classes.names for teacher in teachers])
    written_by = teachers[0].cfg if labeling.student is None else labeling.student
    written, unknown = Classes.of(written_by), _ignored(written_by)[0]
    numbers = numbers_of_student(labeling, written.names, classes.names)
    if labeling.only_check:
        return
    labeling.begin()
    start = time.perf_counter()
    count, output = len(written), labeling.output
    flat = [name.replace("/", "_") for name in labeling.images]
    files = dict(zip(unique_names(flat), labeling.images.values(), strict=True))
    if labeling.score is not None:
        least = np.full(count, labeling.score)
    else:
        if labeling.choose == FREQUENCIES:
            least = _as_frequent(teachers, bare_frames(files), numbers, written_by)
        else:
            least = _chosen(teachers, numbers, count, labeling.choose)
        warn_of_bare(written.names, least, labeling.choose)
    ids_and_none, least_and_none = np.append(written.label_ids, np.uint8(unknown)), np.append(least, np.inf)
    pixels = np.zeros(count + 1, np.int64)
    for frame in tqdm(bare_frames(files), "labeling", disable=not on_terminal()):
        labels, scores = _labels(teachers, frame, numbers, count)
        sure = scores >= least_and_none[labels]
        label_ids = np.where(sure, ids_and_none[labels], np.uint8(unknown))
        label = output / LABELS / SPLIT / CITY / f"{frame['name']}_{LABELS}_labelIds.png"
        write(label, label_ids)
        write(Path(scores_file(str(label))), np.rint(scores * 255).astype(np.uint8))
        _keep(frame, teachers[0], output / IMAGES / SPLIT / CITY / f"{frame['name']}_{IMAGES}.png")
        pixels += np.bincount(np.where(sure, labels, count).ravel(), minlength=count + 1)
    *counts, unsure = (pixels / pixels.sum()).tolist()
    record = labeling.record(written.names, least.tolist(), time.perf_counter() - start, counts)
    ids = {name: int(i) for name, i, share in zip(written.names, written.label_ids, counts, strict=True) if share}
    record |= {"ignored": unsure, LABEL_IDS: ids, IGNORED_ID: unknown, "scores": "*_scores.png"}
    write_text(output / RECORD, json.dumps(record, indent=1) + "\n")
    words = quoted(_words(teachers[0].cfg, [], output))
    print(
        f"{len(files)} images, {100 * unsure:.1f} % of the pixels ignored\n"
        f"Add to the command that trains a student: {words}"
    )


def with_labels(cfg: CfgNode, folder: Path) -> list[str]:
    """Return the overrides that train cfg on the labels in a folder, too."""
    return _words(cfg, cfg.DATASETS.PSEUDO_LABELED, folder)


def _words(cfg: CfgNode, others: Sequence[str], folder: Path) -> list[str]:
    words = ["DATASETS.PSEUDO_LABELED", str([*others, str(folder / SPLIT)])]
    return words if cfg.DATASETS.IGNORED_IDS else [*words, "DATASETS.IGNORED_IDS", str(_ignored(cfg))]


def _ignored(cfg: CfgNode) -> list[int]:
    """Return the labelIds that do not count; where the config has none, one that is free.

    Raises:
        UserError: none is.
    """
    free = (Classes.of(cfg).train_ids == UNKNOWN).nonzero()[0].tolist()
    if not (ids := list(cfg.DATASETS.IGNORED_IDS) or free[-1:]):
        raise UserError("DATASETS.CLASSES names all labelIds from 0 to 255: leave one for pixels without a label")
    return ids


def unlabeled_images(cfg: CfgNode) -> Mapping[str, Path]:
    """List the images of DATASETS.UNLABELED by name."""
    return {frame["name"]: Path(frame["image"]) for frame in unlabeled_frames(cfg)}


def _labels(
    teachers: Sequence[Trained], frame: Frame, numbers: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return classes (H, W), uint8, of a frame, and the mean probability of each.

    Args:
        numbers: for each of the teachers' classes that of the labels, below 0 where these do not have it.
        count: of the labels' classes; one more has all probability that is of none.
    """
    parts = [_joined(rows, numbers, count).max(0) for rows in _probabilities(teachers, frame)]
    scores, labels = ([part[n].cpu().numpy() for part in parts] for n in (0, 1))
    return np.concatenate(labels).astype(np.uint8), np.concatenate(scores)


def _joined(probabilities: Tensor, numbers: np.ndarray, count: int) -> Tensor:
    """Add up the probabilities of the teachers' classes (K, n, W) to those of the labels' classes."""
    if numbers.tolist() == list(range(count)):
        return probabilities
    groups = torch.as_tensor(np.where(numbers < 0, count, numbers), device=probabilities.device)
    return probabilities.new_zeros(count + 1, *probabilities.shape[1:]).index_add(0, groups, probabilities)


def _probabilities(teachers: Sequence[Trained], frame: Frame) -> Iterator[Tensor]:
    """Yield the teachers' mean probabilities from top to bottom, (K, n, W) each; of several teachers as a whole."""
    images = [Reader(one.classes, one.cfg.INPUT.FORMAT)(frame | {"label": None})["image"] for one in teachers]
    for one, image in zip(teachers, images, strict=True):
        refuse_whole(one, image.shape[1:], frame["image"])
    if len(teachers) == 1:
        yield from teachers[0].model.rows(images[0])
        return
    total: Any = sum(torch.cat(list(one.model.rows(image)), 1) for one, image in zip(teachers, images, strict=True))
    yield total / len(teachers)


def _chosen(teachers: Sequence[Trained], numbers: np.ndarray, count: int, way: str) -> np.ndarray:
    """Choose for each class of the labels the probability from which on F1 on the labeled frames of DATASETS.TEST is
    best, or a precision is reached.

    Args:
        numbers, count: see _labels.
    """
    first = teachers[0]
    frames = [frame for frame in test_frames(first.cfg) if frame["label"]]
    if not frames:
        raise UserError(f"{option_of(way)}: DATASETS.TEST has no labels to choose by: name data that has")
    read, calibration = Reader(first.classes, first.cfg.INPUT.FORMAT), Calibration(count + 1)
    meant = np.where(numbers < 0, count, numbers)
    for frame in tqdm(frames, "choosing thresholds", disable=not on_terminal()):
        given = read(frame)["sem_seg"].numpy()
        counts = given != IGNORE
        truth = meant[given[counts]]
        labels, scores = (x[counts] for x in _labels(teachers, frame, numbers, count))
        calibration.add(labels, scores, labels == truth, truth)
    return calibration.thresholds(read_way(way))[:count]


def _as_frequent(teachers: Sequence[Trained], frames: Sequence[Frame], numbers: np.ndarray, cfg: CfgNode) -> np.ndarray:
    """Choose for each class the probability from which on its share of the pixels is that in DATASETS.TRAIN.

    The teachers see all frames once for it.

    Args:
        frames: that are to be labeled.
        numbers: see _labels.
        cfg: whose classes the labels have.

    Raises:
        UserError: DATASETS.TRAIN has no labels.
    """
    classes = Classes.of(cfg)
    count = len(classes)
    truth = count_pixels(Reader(classes, cfg.INPUT.FORMAT), training_frames(cfg), "DATASETS.TRAIN")
    pixels = truth.sum(0)[:count]
    if not pixels.sum():
        raise UserError("--choose-by frequencies: DATASETS.TRAIN has no labels to count: name data that has")
    calibration, total = Calibration(count + 1), 0
    for frame in tqdm(frames, "choosing thresholds", disable=not on_terminal()):
        labels, scores = _labels(teachers, frame, numbers, count)
        calibration.add(labels, scores, np.zeros(labels.shape, bool), np.zeros(0))
        total += labels.size
    return calibration.thresholds_of_counts(np.append(pixels * total / pixels.sum(), 0))[:count]


def _keep(frame: Frame, teacher: Trained, place: Path) -> None:
    """Write the image next to its labels, as a link where it is a PNG."""
    source, place = Path(frame["image"]).resolve(), place.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix.lower() == ".png" and read_header(str(source)).orientation == 1:
        place.symlink_to(source)
        return
    image = Reader(teacher.classes, teacher.cfg.INPUT.FORMAT)(frame)["image"]
    write(place, to_rgb(image, teacher.cfg.INPUT.FORMAT))
