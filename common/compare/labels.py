"""Labels that a method's teacher writes before its student is trained on them: the part "labels" of a method."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from densedist.common.compare.methods import (
    CHOOSE_THRESHOLDS,
    IGNORE_THRESHOLD,
    OF_LABELING,
    SCORE_THRESHOLD,
    TEACHER,
    folder_name,
    of_teacher,
    parts,
    setting,
)
from densedist.common.compare.names import LABELS, UNLABELED
from densedist.common.config import Key
from densedist.common.data.sides import SIDES
from densedist.common.distill.sources import idle_keys
from densedist.common.errors import UserError
from densedist.common.fingerprint import Fingerprint, Fingerprints, refuse_another
from densedist.common.labeling import F1, FREQUENCIES, RECORD, SCORE, Labeling, check_score, read_way
from densedist.common.labels.few import counted, few, share_below
from densedist.common.labels.shards import goes_on
from densedist.common.task import Task
from densedist.common.writers import writers

logger = logging.getLogger(__name__)
LOWER = f"{LABELS}@{SCORE_THRESHOLD}={{}}"  # see few
BOX_VARIANCE = "BOX_VARIANCE"  # labels have it, in their folder's name and settings
# Parts of a fingerprint that labels depend on, apart from scores.
LABEL_PARTS = ("task", "DISTILL.TEACHER", "DATASETS.UNLABELED", "DATASETS.CLASSES", "DATASETS.IGNORED", "IMPORTS")
# Keys of a teacher that say how it teaches in training: its labels are the same whatever they are.
OF_TRAINING = tuple(
    f"DISTILL.TEACHER.{key}"
    for key in ("CACHE", "CACHE_BITS", "CACHE_MAPS", "CASCADE_STAGES", "COMPILE", "INPUT_SCALE", "KEPT_MASS", "STREAM")
)


@dataclass(frozen=True)
class TeacherLabels:
    """Labels that a teacher has written.

    Args:
        words: the overrides that train on them, too.
        seconds: time it took to write them.
        remark: that most images have none; "" where they have.
    """

    words: list[str]
    seconds: float
    remark: str = ""


def labeling_of(task: Task, cfg: CfgNode, method: str, output: Path, fingerprints: Fingerprints) -> Labeling:
    """Return the labeling that a method's teacher has to do.

    Args:
        cfg: the method's config, whose DATASETS.UNLABELED are labeled.
        output: folder of all methods; one that says something of labels (TEACHER, OF_LABELING, TEACHER.TEST.FLIP), or
            asks for the variance of boxes, has its own folder in it.

    Raises:
        UserError: a wrong value of one of OF_LABELING, or a teacher that cannot write labels.
    """
    looks = of_teacher(method)
    own = {name: value for name in (TEACHER, *OF_LABELING) if (value := setting(method, name))} | looks
    words = [word for key, value in looks.items() for word in (key.removeprefix(f"{TEACHER}."), value)]
    source, way, ignore = f"--methods: {method}", own.get(CHOOSE_THRESHOLDS), own.get(IGNORE_THRESHOLD)
    if way and SCORE_THRESHOLD in own:
        raise UserError(f"{source}: {CHOOSE_THRESHOLDS} replaces {SCORE_THRESHOLD}: give only one of them")
    if way:
        read_way(way, f"{source}: {CHOOSE_THRESHOLDS}")
    score = None if way else check_score(own.get(SCORE_THRESHOLD, SCORE), f"{source}: {SCORE_THRESHOLD}")
    ignored_from = None if ignore is None else check_score(ignore, f"{source}: {IGNORE_THRESHOLD}")
    # Folders with one score for all classes, and no band, have been written before there were others.
    depends_on = {CHOOSE_THRESHOLDS: way} if way else {SCORE_THRESHOLD: str(score)}
    depends_on |= {} if ignored_from is None else {IGNORE_THRESHOLD: str(ignored_from)}
    if variance := bool(cfg.PSEUDO_LABELS.get("MAX_BOX_VARIANCE")):  # a key of detection
        own[BOX_VARIANCE] = depends_on[BOX_VARIANCE] = "True"
    read = (*LABEL_PARTS, "DATASETS.TRAIN") if way == FREQUENCIES else LABEL_PARTS
    teachers = [one.under(*words) for one in writers(cfg, task.grammar, source)]
    settings = fingerprints.of(cfg, read)
    # Not left out, as labels have been written by versions that recorded them.
    settings |= {key: str(task.grammar.keys()[key].default) for key in OF_TRAINING if key in settings}
    return Labeling(
        teachers,
        task.unlabeled_images(cfg),
        output / folder_name("@".join([LABELS, *(f"{key}={value}" for key, value in own.items())])),
        score,
        way or F1,
        ignored_from,
        variance,
        student=cfg,
        settings=settings | depends_on | looks,
    )


def refuse_other_labels(task: Task, labeling: Labeling) -> None:
    """Refuse a folder with labels of other settings.

    Raises:
        UserError: the labels are of other settings, or have none recorded.
    """
    if (record := labeling.output / RECORD).is_file():
        then = json.loads(record.read_text()).get("settings")
        refuse_another(str(labeling.output), then, dict(labeling.settings), task.grammar.keys())


def check_labels(task: Task, labeling: Labeling) -> None:
    """Check that labels exist, or can be written; write none.

    Raises:
        UserError: a teacher that does not fit.
    """
    if not (labeling.output / RECORD).is_file():
        task.label(replace(labeling, only_check=True))


def write_labels(task: Task, cfg: CfgNode, labeling: Labeling) -> TeacherLabels:
    """Let a teacher write the labels, unless it has done so before; go on where it was killed. Warn of few.

    Args:
        cfg: the method's.

    Raises:
        UserError: the teacher is not sure enough of anything.
    """
    if not (file := labeling.output / RECORD).is_file():  # else of an earlier call
        if not goes_on(labeling):
            shutil.rmtree(labeling.output, ignore_errors=True)
        print(f"{LABELS}: the teacher labels {len(labeling.images)} images, once for all methods …", flush=True)
        task.label(replace(labeling, resume=True))
    record = json.loads(file.read_text())
    if not any(known["labels"] for known in record["classes"].values()):
        raise UserError(f"--methods: {LABELS}: {few(record, LOWER)}")
    if remark := _remark(record):
        logger.warning(remark)
    return TeacherLabels(task.with_labels(cfg, labeling.output), record["seconds"], remark)


def _remark(record: Mapping[str, Any]) -> str:
    """Return how many images have labels where most have none, with what to do if they are few."""
    said = few(record, LOWER)
    if not said and share_below(record, 0.5):
        said = f"{counted(record)}, and a student learns from no others"
    return said and f"{LABELS}: {said}"


def settings_of(labeling: Labeling, run: Fingerprint) -> Fingerprint:
    """Return what training on labels depends on.

    Args:
        run: what it depends on apart from them.
    """
    of_labels = dict(labeling.settings)
    of_labels["--unlabeled"] = of_labels.pop("DATASETS.UNLABELED")
    return run | of_labels | {key: run[key] for key in OF_TRAINING if key in run}


def undone(cfg: CfgNode, keys: Mapping[str, Key], method: str) -> list[str]:
    """Return the overrides that undo what a config says of labels and of images without labels, for methods that have
    them, where a method has none.

    Args:
        cfg: without a method.
        keys: of the task.
    """
    names = {part.partition("@")[0] for part in parts(method)}
    sides = {side for side in SIDES if cfg.DATASETS[side]}
    sides |= {side for name, side in ((LABELS, "PSEUDO_LABELED"), (UNLABELED, "UNLABELED")) if name in names}
    return [word for name in idle_keys(cfg, keys, sides) for word in (name, str(keys[name].default))]
