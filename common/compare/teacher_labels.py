"""What a method of a comparison trains on beside its own labels: those that its teacher writes."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode

from densedist.common.compare.methods import LABELS, SCORE_THRESHOLD, TEACHER, setting
from densedist.common.compare.teachers import own_words
from densedist.common.config import find_config
from densedist.common.errors import UserError
from densedist.common.labeling import RECORD, Labeling
from densedist.common.run_files import Weights
from densedist.common.score_threshold import SCORE, check_score
from densedist.common.task import Task


@dataclass(frozen=True)
class TeacherLabels:
    """
    Args:
        words: the overrides that train on them, too.
        seconds: that it took to write them.
    """

    words: list[str]
    seconds: float


def write_labels(task: Task, cfg: CfgNode, method: str, output: Path) -> TeacherLabels:
    """Let the teacher of cfg, a method's config, write labels of DATASETS.UNLABELED, unless it has done so before.

    Args:
        output: of all methods; those that have a teacher or a threshold of their own have a folder of their own in it.

    Raises:
        UserError: a wrong SCORE_THRESHOLD, or a folder with labels of another teacher.
    """
    node, key = cfg.DISTILL.TEACHER, "DISTILL.TEACHER"
    score = check_score(setting(method, SCORE_THRESHOLD) or SCORE, f"--methods: {method}: {SCORE_THRESHOLD}")
    settings = [f"{name}={value}" for name in (TEACHER, SCORE_THRESHOLD) if (value := setting(method, name))]
    folder = output / "@".join([LABELS, *settings]).replace("/", "_")
    if not (folder / RECORD).is_file():  # else of an earlier call
        shutil.rmtree(folder, ignore_errors=True)
        config = find_config(node.CONFIG_FILE, f"{key}.CONFIG_FILE")
        teacher = Weights(node.WEIGHTS, config, False, f"{key}.WEIGHTS")
        task.label(Labeling([teacher], own_words(cfg), task.unlabeled_images(cfg), folder, score))
    record = json.loads((folder / RECORD).read_text())
    if record["teachers"] != [node.WEIGHTS]:
        raise UserError(f"{key}.WEIGHTS: {folder} has labels of {record['teachers'][0]}: name another --output-dir")
    return TeacherLabels(task.with_labels(cfg, folder), record["seconds"])
