"""Labels that teachers write for any images: a split in Cityscapes' format that a student trains on as on any other."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import Tensor
from tqdm import tqdm

from densedist.common.data.headers import read_header
from densedist.common.data.images import decode, unique_names
from densedist.common.data.loader import reading_processes
from densedist.common.errors import UserError
from densedist.common.files import write_text
from densedist.common.labeling import (
    FREQUENCIES,
    RECORD,
    Calibration,
    Labeling,
    about_classes,
    check_same_names,
    numbers_of_student,
    option_of,
    read_way,
    warn_of_bare,
)
from densedist.common.labels.loading import Item
from densedist.common.labels.precision import in_teachers_precision
from densedist.common.labels.shards import Shards, begin, kept
from densedist.common.labels.sheet import write_sheet
from densedist.common.labels.work import Unreadable, all_unreadable, fill_shards, in_words
from densedist.common.logging import on_terminal
from densedist.seg.data.frames import IMAGES, LABELS, Frame, bare_frames, scores_file
from densedist.seg.data.reading import Reader, count_pixels
from densedist.seg.datasets import IGNORED_ID, LABEL_IDS, test_frames, training_frames, unlabeled_frames
from densedist.seg.drawing import to_rgb
from densedist.seg.inference.labels_sheet import Files, sheet
from densedist.seg.inference.predict import refuse_whole
from densedist.seg.labels import IGNORE, UNKNOWN, Classes
from densedist.seg.models import Trained, load_trained
from densedist.seg.networks.dense import SMP

SPLIT, CITY = "train", "images"
LABELED = 0.01  # share of an image's pixels that have labels, from which on the image has
IN_ONE_FOLDER = 10_000  # images of a job; of a larger one each shard has a folder


def label_images(labeling: Labeling) -> None:
    """Write leftImg8bit/train and gtFine/train in the output folder, and what is known of them.

    A pixel has the class of the highest mean probability over the teachers; where that is below the score, or the
    student does not have the class, its labelId is the first of DATASETS.IGNORED_IDS, or one that is free. The
    probability of the highest class, times 255, is in a PNG of its own. The images are links to PNG files, and copies
    in PNG of all others. All processes of a group share the work; their output is the same, whatever their number.

    Raises:
        UserError: wrong weights, teachers of different classes or without one of the student's, a folder that has
            files, no labels to choose by, too many images that cannot be read.
    """
    if labeling.ignore is not None:
        raise UserError("--ignore-threshold is for detectors: pixels below --score-threshold are ignored without it")
    if labeling.box_variance:
        raise UserError("--box-variance is for detectors: leave it out")
    teachers = [load_trained(weights) for weights in labeling.teachers]
    classes = teachers[0].classes
    check_same_names([teacher.classes.names for teacher in teachers])
    written_by = teachers[0].cfg if labeling.student is None else labeling.student
    written, unknown = Classes.of(written_by), _ignored(written_by)[0]
    numbers = numbers_of_student(labeling, written.names, classes.names)
    if labeling.only_check:
        return
    output, cfgs = labeling.output, [teacher.cfg for teacher in teachers]
    flat = unique_names([name.replace("/", "_") for name in labeling.images])

    def choose() -> np.ndarray:
        if labeling.score is not None:
            return np.full(len(written), labeling.score)
        if labeling.choose == FREQUENCIES:
            files = dict(zip(flat, labeling.images.values(), strict=True))
            return _as_frequent(teachers, bare_frames(files), numbers, written_by)
        return _chosen(teachers, numbers, written, labeling)

    workers = reading_processes(cfgs[0])
    with in_teachers_precision(written_by):
        shards = begin(labeling, choose)
        if labeling.score is None and comm.is_main_process():
            warn_of_bare(written.names, shards.least, labeling.choose)
        writer = _Writer(shards, output, written.label_ids, unknown, cfgs[0].INPUT.FORMAT)
        see = partial(_see, teachers, numbers, len(written), writer)
        read = partial(_read, [_reader(one) for one in teachers])
        is_main = fill_shards(shards, labeling, flat, read, see, workers, writer.settle)
    if is_main:
        unreadable = all_unreadable(shards, labeling)
        gone = {file for file, _ in unreadable}
        for number, file in enumerate(labeling.images.values()):
            if str(file) in gone:  # what a job has written that was killed
                writer.remove(number, flat[number])
        about = about_classes(written.names, classes.names, numbers)
        _join(shards, labeling, unreadable, written, unknown, about, writer.files)


def _join(
    shards: Shards,
    labeling: Labeling,
    unreadable: Unreadable,
    written: Classes,
    unknown: int,
    about: Mapping[str, Any],
    files: Files,
) -> None:
    """Write RECORD and the page from all shards, which are then removed; the images and labels are where they are to
    be.

    Args:
        written: the classes of the labels.
        unknown: the labelId of ignored pixels.
        about: what became of the teachers' classes, for RECORD.
        files: see sheet.
    """
    pixels, labeled, highest = np.zeros(len(written) + 1, np.int64), 0, 0.0
    seconds = shards.seconds
    for content in shards.read():
        seconds += content["seconds"]
        for image in content["images"]:
            pixels[image["classes"]] += image["pixels"]
            known = sum(n for c, n in zip(image["classes"], image["pixels"], strict=True) if c < len(written))
            labeled += known >= LABELED * sum(image["pixels"])
            highest = max(highest, image["highest"])
    *counts, unsure = (pixels / pixels.sum()).tolist()
    record = labeling.record(written.names, shards.least.tolist(), seconds, counts, labeled, highest, unreadable)
    ids = {name: int(i) for name, i, share in zip(written.names, written.label_ids, counts, strict=True) if share}
    record |= about
    record |= {"ignored": unsure, LABEL_IDS: ids, IGNORED_ID: unknown, "scores": "*_scores.png"}
    with kept(labeling.output):
        if labeling.sheet:
            write_sheet(labeling, sheet(shards, written, shards.least, files), record)
        write_text(labeling.output / RECORD, json.dumps(record, indent=1) + "\n")
        shards.remove()
    print(f"{record['images']} images, {100 * unsure:.1f} % of the pixels ignored\n{in_words(unreadable)}", end="")


def with_labels(cfg: CfgNode, folder: Path) -> list[str]:
    """Return the overrides that train cfg on the labels in a folder, too."""
    words = ["DATASETS.PSEUDO_LABELED", str([*cfg.DATASETS.PSEUDO_LABELED, str(folder / SPLIT)])]
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


def _reader(teacher: Trained) -> Reader:
    return Reader(teacher.classes, teacher.cfg.INPUT.FORMAT)


def _read(readers: Sequence[Reader], file: str) -> tuple[list[Tensor], Any]:
    """Read an image (3, H, W) as each teacher takes it, and its size.

    Raises:
        UserError: it cannot be read as it is meant.
    """
    decode(Path(file))
    images = [read({"name": "", "image": file, "label": None})["image"] for read in readers]
    return images, images[0].shape


def _see(
    teachers: Sequence[Trained], numbers: np.ndarray, count: int, writer: "_Writer", items: Sequence[Item]
) -> list[dict[str, Any]]:
    """Write the labels of images of one size, and return what their shard has of them.

    Args:
        numbers, count: see _labels.
    """
    images = (
        items[0].sample if len(items) == 1 else list(map(torch.stack, zip(*(x.sample for x in items), strict=True)))
    )
    labels, scores = _labels(teachers, images, items[0].file, numbers, count)
    size = labels.shape[-2:]
    each = zip(items, labels.reshape(-1, *size), scores.reshape(-1, *size), strict=True)
    return [writer(item, of_one, its_scores) for item, of_one, its_scores in each]


def _labels(
    teachers: Sequence[Trained], images: Sequence[Tensor], file: str, numbers: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return classes (H, W), uint8, of an image, and the mean probability of each; of several images (N, H, W).

    Args:
        images: the image for each teacher, (3, H, W), or several of one size, (N, 3, H, W).
        file: the path of the first, for messages.
        numbers: for each of the teachers' classes that of the labels, below 0 where these do not have it.
        count: of the labels' classes; one more has all probability that is of none.
    """
    parts = [_joined(rows, numbers, count).max(-3) for rows in _probabilities(teachers, images, file)]
    scores, labels = ([part[n].cpu().numpy() for part in parts] for n in (0, 1))
    return np.concatenate(labels, -2).astype(np.uint8), np.concatenate(scores, -2)


def _joined(probabilities: Tensor, numbers: np.ndarray, count: int) -> Tensor:
    """Add up the probabilities of the teachers' classes, ([N,] K, n, W), to those of the labels' classes."""
    if numbers.tolist() == list(range(count)):
        return probabilities
    groups = torch.as_tensor(np.where(numbers < 0, count, numbers), device=probabilities.device)
    *several, _, height, width = probabilities.shape
    return probabilities.new_zeros(*several, count + 1, height, width).index_add(-3, groups, probabilities)


def _probabilities(teachers: Sequence[Trained], images: Sequence[Tensor], file: str) -> Iterator[Tensor]:
    """Yield the teachers' mean probabilities from top to bottom, ([N,] K, n, W) each; of several teachers as a whole.

    Args:
        images, file: see _labels.
    """
    for one, image in zip(teachers, images, strict=True):
        refuse_whole(one, image.shape[-2:], file)
    if len(teachers) == 1:
        yield from teachers[0].model.rows(images[0])
        return
    total: Any = sum(torch.cat(list(one.model.rows(image)), -2) for one, image in zip(teachers, images, strict=True))
    yield total / len(teachers)


def _labels_of(
    teachers: Sequence[Trained], frame: Frame, numbers: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what _labels does, for a frame that is read here."""
    images = [_reader(one)(frame | {"label": None})["image"] for one in teachers]
    return _labels(teachers, images, frame["image"], numbers, count)


def _chosen(teachers: Sequence[Trained], numbers: np.ndarray, written: Classes, labeling: Labeling) -> np.ndarray:
    """Choose for each class of the labels the probability from which on F1 on the labeled frames of DATASETS.TEST is
    best, or a precision is reached.

    DATASETS.TEST is the teacher's. A model from elsewhere has none, and it is the student's.

    Args:
        numbers: see _labels.
        written: the classes of the labels.
    """
    theirs, classes, way, count = teachers[0].cfg, teachers[0].classes, labeling.choose, len(written)
    of_truth = numbers
    if labeling.student is not None and theirs.MODEL.KIND != SMP:
        theirs, classes, of_truth = labeling.student, written, np.arange(count)
    frames = [frame for frame in test_frames(theirs) if frame["label"]]
    if not frames:
        raise UserError(f"{option_of(way)}: DATASETS.TEST has no labels to choose by: name data that has some")
    read, calibration = Reader(classes, theirs.INPUT.FORMAT), Calibration(count + 1)
    meant = np.where(of_truth < 0, count, of_truth)
    for frame in tqdm(frames, "choosing thresholds", disable=not on_terminal()):
        given = read(frame)["sem_seg"].numpy()
        counts = given != IGNORE
        truth = meant[given[counts]]
        labels, scores = (x[counts] for x in _labels_of(teachers, frame, numbers, count))
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
        raise UserError("--choose-by frequencies: DATASETS.TRAIN has no labels to count: name data that has some")
    calibration, total = Calibration(count + 1), 0
    for frame in tqdm(frames, "choosing thresholds", disable=not on_terminal()):
        labels, scores = _labels_of(teachers, frame, numbers, count)
        calibration.add(labels, scores, np.zeros(labels.shape, bool), np.zeros(0))
        total += labels.size
    return calibration.thresholds_of_counts(np.append(pixels * total / pixels.sum(), 0))[:count]


LINKED = (".png", ".jpg", ".jpeg")  # suffixes of images that are linked to


class _Writer:
    """Writes an image, its labels and their scores into the tree.

    Args:
        output: the tree's folder.
        label_ids: of the classes.
        unknown: the labelId of ignored pixels.
        channels: of the images.
    """

    def __init__(self, shards: Shards, output: Path, label_ids: np.ndarray, unknown: int, channels: str) -> None:
        self.shards, self.output, self.channels = shards, output, channels
        self.unknown = np.uint8(unknown)
        self.ids_and_none = np.append(label_ids, self.unknown)
        self.least_and_none = np.append(shards.least, np.inf)
        self._unsettled: list[Path] = []

    def __call__(self, item: Item, labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        """Write an image; return what its shard has of it: number and name, the "classes" in it, the last of which is
        none, how many "pixels" each has, the mean "score" and the "highest".

        Args:
            labels: classes (H, W), uint8.
            scores: of each pixel, in [0, 1].
        """
        sure = scores >= self.least_and_none[labels]
        image, label, of_scores = self.places(item.number, item.name)
        with kept(self.output):
            self._write_png(label, np.where(sure, self.ids_and_none[labels], self.unknown))
            self._write_png(of_scores, np.rint(scores * 255).astype(np.uint8))
            self._keep(item, image)
        counts = np.bincount(np.where(sure, labels, len(self.ids_and_none) - 1).ravel())
        classes = counts.nonzero()[0]
        found = {"classes": classes.tolist(), "pixels": counts[classes].tolist(), "score": float(scores.mean())}
        highest = float(scores.max(initial=0.0, where=labels < len(self.ids_and_none) - 1))
        return {"number": item.number, "name": item.name} | found | {"highest": highest}

    def settle(self) -> None:
        """Wait until the disk has what was written since the last call."""
        with kept(self.output):  # some disks say only here that they are full
            for path in self._unsettled:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        self._unsettled.clear()

    def remove(self, number: int, name: str) -> None:
        """Remove what is there of an image."""
        image, *others = self.places(number, name)
        for path in (*(image.with_suffix(suffix) for suffix in LINKED), *others):
            path.unlink(missing_ok=True)

    def places(self, number: int, name: str) -> tuple[Path, Path, Path]:
        """Return where an image lies, but for the suffix of a link, its label and the label's scores."""
        city = CITY if self.shards.images <= IN_ONE_FOLDER else f"{number // self.shards.size:05}"
        label = self.output / LABELS / SPLIT / city / f"{name}_{LABELS}_labelIds.png"
        return self.output / IMAGES / SPLIT / city / f"{name}_{IMAGES}.png", label, Path(scores_file(str(label)))

    def files(self, number: int, name: str) -> tuple[Path, Path, Path]:
        """Return the files that are there of an image: the image, its label and the label's scores."""
        image, label, of_scores = self.places(number, name)
        found = (file for suffix in LINKED if (file := image.with_suffix(suffix)).exists())
        return next(found, image), label, of_scores

    def _keep(self, item: Item, place: Path) -> None:
        """Write the image next to its labels: as a link, or as a PNG where readers may turn it or not know it."""
        source, place = Path(item.file).resolve(), place.absolute()
        for suffix in LINKED:  # of a job that was killed
            place.with_suffix(suffix).unlink(missing_ok=True)
        if source.suffix.lower() in LINKED and read_header(str(source)).orientation == 1:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.with_suffix(source.suffix.lower()).symlink_to(source)
        else:
            self._write_png(place, to_rgb(item.sample[0], self.channels)[..., ::-1])

    def _write_png(self, path: Path, image: np.ndarray) -> None:
        """Write numbers (H, W), or colors (H, W, 3) in BGR, of uint8.

        Raises:
            OSError: what prevents it, as a full disk, of which OpenCV says nothing.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        self._unsettled.append(path)
