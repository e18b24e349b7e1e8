"""What a method of a comparison trains on beside its own labels: those that its teacher writes."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from detectron2.config import CfgNode

from densedist.common.compare.methods import LABELS, SCORE_THRESHOLD, TEACHER, folder_name, setting
from densedist.common.compare.teachers import own_words
from densedist.common.config import find_config
from densedist.common.errors import UserError
from densedist.common.fingerprint import Fingerprint, Fingerprints, refuse_another
from densedist.common.labeling import RECORD, Labeling
from densedist.common.run_files import Weights
from densedist.common.score_threshold import SCORE, check_score
from densedist.common.task import Task

# What labels depend on, beside the score, and what stands for a key of DISTILL.TEACHER in the teacher's own config.
PARTS = ("task", "DISTILL.TEACHER", "DATASETS.UNLABELED", "DATASETS.CLASSES", "DATASETS.IGNORED", "IMPORTS")
STANDS_FOR = {
    "FORMAT": "INPUT.FORMAT",
    "PIXEL_MEAN": "MODEL.PIXEL_MEAN",
    "PIXEL_STD": "MODEL.PIXEL_STD",
    "STRIDE": "MODEL.STRIDE",
}


@dataclass(frozen=True)
class TeacherLabels:
    """
    Args:
        words: the overrides that train on them, too.
        seconds: that it took to write them.
    """

    words: list[str]
    seconds: float


def labeling_of(task: Task, cfg: CfgNode, method: str, output: Path, found: Fingerprints) -> Labeling:
    """What a method's teacher is to label.

    Args:
        cfg: the method's config, whose DATASETS.UNLABELED are labeled.
        output: of all methods; those that have a teacher or a threshold of their own have a folder of their own in it.

    Raises:
        UserError: a wrong SCORE_THRESHOLD, or a teacher that is not one with a config.
    """
    node, key = cfg.DISTILL.TEACHER, "DISTILL.TEACHER"
    score = check_score(setting(method, SCORE_THRESHOLD) or SCORE, f"--methods: {method}: {SCORE_THRESHOLD}")
    settings = [f"{name}={value}" for name in (TEACHER, SCORE_THRESHOLD) if (value := setting(method, name))]
    if not node.CONFIG_FILE:
        raise UserError(f"--methods: {method}: {key}.CONFIG_FILE is empty: who writes labels needs a config")
    if node.MORE:
        raise UserError(f"--methods: {method}: {key}.MORE: one teacher writes labels; several do by densedist label")
    teacher = Weights(node.WEIGHTS, find_config(node.CONFIG_FILE, f"{key}.CONFIG_FILE"), False, f"{key}.WEIGHTS")
    said = [word for name, own in STANDS_FOR.items() if node.get(name) for word in (own, str(node[name]))]
    if node.get("FORM", "auto") != "auto":
        said += ["MODEL.FORM", node.FORM]
    return Labeling(
        [teacher],
        [*own_words(cfg), *said],
        task.unlabeled_images(cfg),
        output / folder_name("@".join([LABELS, *settings])),
        score,
        student=cfg,
        settings=found.of(cfg, PARTS) | {SCORE_THRESHOLD: str(score)},
    )


def refuse_other_labels(labeling: Labeling) -> None:
    """Make sure that a folder has the labels that are wanted, or none.

    Raises:
        UserError: they are of other settings, or do not say.
    """
    if (record := labeling.output / RECORD).is_file():
        then = json.loads(record.read_text()).get("settings")
        refuse_another(str(labeling.output), then, dict(labeling.settings))


def check_labels(task: Task, labeling: Labeling) -> None:
    """Make sure that labels are there already, or can be written; nothing is.

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
    """What training on labels depends on, beside what it does without them."""
    parts = dict(labeling.settings)
    return parts | {"--unlabeled": parts.pop("DATASETS.UNLABELED")}
