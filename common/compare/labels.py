"""Labels that a method's teacher writes before its student is trained on them: the part "labels" of a method."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from detectron2.config import CfgNode

from densedist.common.compare.methods import (
    LABELS,
    SCORE_THRESHOLD,
    TEACHER,
    UNLABELED,
    folder_name,
    of_teacher,
    parts,
    setting,
)
from densedist.common.compare.teachers import own_words
from densedist.common.config import find_config
from densedist.common.data.sides import SIDES
from densedist.common.distill.average import AVERAGE, is_average
from densedist.common.distill.ensemble import configs_of_each
from densedist.common.distill.sources import NEEDS, idle_keys
from densedist.common.distill.teacher_files import words_of_teacher
from densedist.common.errors import UserError
from densedist.common.fingerprint import Fingerprint, Fingerprints, refuse_another
from densedist.common.labeling import RECORD, SCORE, Labeling, check_score
from densedist.common.run_files import Weights
from densedist.common.task import Task

# Parts of a fingerprint that labels depend on, apart from the score.
LABEL_PARTS = ("task", "DISTILL.TEACHER", "DATASETS.UNLABELED", "DATASETS.CLASSES", "DATASETS.IGNORED", "IMPORTS")


@dataclass(frozen=True)
class TeacherLabels:
    """Labels that a teacher has written.

    Args:
        words: the overrides that train on them, too.
        seconds: time it took to write them.
    """

    words: list[str]
    seconds: float


def labeling_of(task: Task, cfg: CfgNode, method: str, output: Path, fingerprints: Fingerprints) -> Labeling:
    """Return the labeling that a method's teacher has to do.

    Args:
        cfg: the method's config, whose DATASETS.UNLABELED are labeled.
        output: folder of all methods; one that says something of labels (TEACHER, SCORE_THRESHOLD, TEACHER.TEST.FLIP)
            has its own folder in it.

    Raises:
        UserError: a wrong SCORE_THRESHOLD, or a teacher that cannot write labels.
    """
    score = check_score(setting(method, SCORE_THRESHOLD) or SCORE, f"--methods: {method}: {SCORE_THRESHOLD}")
    looks = of_teacher(method)
    own = {name: value for name in (TEACHER, SCORE_THRESHOLD) if (value := setting(method, name))} | looks
    words = [word for key, value in looks.items() for word in (key.removeprefix(f"{TEACHER}."), value)]
    teachers = [_writer(one, method, task).under(*words) for one in configs_of_each(cfg, task.grammar)]
    return Labeling(
        teachers,
        task.unlabeled_images(cfg),
        output / folder_name("@".join([LABELS, *(f"{key}={value}" for key, value in own.items())])),
        score,
        student=cfg,
        settings=fingerprints.of(cfg, LABEL_PARTS) | {SCORE_THRESHOLD: str(score)} | looks,
    )


def _writer(cfg: CfgNode, method: str, task: Task) -> Weights:
    """Return the files of a teacher that writes labels.

    Args:
        cfg: the student's, with this teacher alone.

    Raises:
        UserError: it has no config, or is the student's own average.
    """
    node, key = cfg.DISTILL.TEACHER, "DISTILL.TEACHER"
    if is_average(node):
        raise UserError(
            f"--methods: {method}: {key}.WEIGHTS is {AVERAGE}, and labels are written before there is a student: name "
            "trained teachers by TEACHER"
        )
    if not node.CONFIG_FILE:
        raise UserError(f"--methods: {method}: {key}.CONFIG_FILE is empty: a teacher that writes labels needs one")
    weights = Weights(node.WEIGHTS, find_config(node.CONFIG_FILE, f"{key}.CONFIG_FILE"), False, f"{key}.WEIGHTS")
    return weights.under(*own_words(cfg), *words_of_teacher(node, task.grammar.keys()))


def refuse_other_labels(labeling: Labeling) -> None:
    """Refuse a folder with labels of other settings.

    Raises:
        UserError: the labels are of other settings, or have none recorded.
    """
    if (record := labeling.output / RECORD).is_file():
        then = json.loads(record.read_text()).get("settings")
        refuse_another(str(labeling.output), then, dict(labeling.settings))


def check_labels(task: Task, labeling: Labeling) -> None:
    """Check that labels exist, or can be written; write none.

    Raises:
        UserError: a teacher that does not fit.
    """
    if not (labeling.output / RECORD).is_file():
        task.label(replace(labeling, only_check=True))


def write_labels(task: Task, cfg: CfgNode, labeling: Labeling) -> TeacherLabels:
    """Let a teacher write the labels, unless it has done so before.

    Args:
        cfg: the method's.
    """
    record = labeling.output / RECORD
    if not record.is_file():  # else of an earlier call
        shutil.rmtree(labeling.output, ignore_errors=True)
        task.label(labeling)
    return TeacherLabels(task.with_labels(cfg, labeling.output), json.loads(record.read_text())["seconds"])


def settings_of(labeling: Labeling) -> Fingerprint:
    """Return what training on labels depends on in addition."""
    parts = dict(labeling.settings)
    return parts | {"--unlabeled": parts.pop("DATASETS.UNLABELED")}


def undone(cfg: CfgNode, method: str) -> list[str]:
    """Return the overrides that undo what a config says of labels and of images without labels, for methods that have
    them, where a method has none.

    Args:
        cfg: without a method.
    """
    names = {part.partition("@")[0] for part in parts(method)}
    sides = {side for side in SIDES if cfg.DATASETS[side]}
    sides |= {side for name, side in ((LABELS, "PSEUDO_LABELED"), (UNLABELED, "UNLABELED")) if name in names}
    idle = idle_keys(cfg, sides)
    return [word for key, usual, _ in NEEDS if key in idle for word in (key, str(usual))]
