"""The teachers of a student's config as writers of labels."""

from collections.abc import Mapping

from detectron2.config import CfgNode

from densedist.common.config import Grammar, find_config, trust
from densedist.common.config.keys import Key
from densedist.common.distill.average import AVERAGE, is_average
from densedist.common.distill.ensemble import configs_of_each
from densedist.common.distill.teacher_files import words_of_teacher
from densedist.common.errors import UserError
from densedist.common.foreign.kinds import FOREIGN, recognize
from densedist.common.run_files import Weights

TEACHER = "DISTILL.TEACHER"


def is_foreign(teacher: CfgNode) -> bool:
    """Return whether another project has built a teacher.

    Args:
        teacher: DISTILL.TEACHER of the student's config.
    """
    return bool(teacher.WEIGHTS) and _kind(teacher) in FOREIGN


def _kind(teacher: CfgNode) -> str:
    return teacher.KIND if teacher.KIND != "auto" else recognize(teacher.WEIGHTS)


def own_words(cfg: CfgNode) -> list[str]:
    """Return the overrides that run a teacher's config where the student runs, with the same trust."""
    return ["MODEL.DEVICE", cfg.MODEL.DEVICE, *trust.words(cfg)]


def writers(cfg: CfgNode, grammar: Grammar, source: str = "") -> list[Weights]:
    """Return the files of each teacher of a student, to write labels.

    Args:
        cfg: the student's.
        grammar: of the task.
        source: what asks for labels, for messages.

    Raises:
        UserError: a teacher that is not there, has no config, or is the student's own average.
    """
    return [_writer(one, grammar.keys(), f"{source}: " if source else "") for one in configs_of_each(cfg, grammar)]


def _writer(cfg: CfgNode, keys: Mapping[str, Key], source: str) -> Weights:
    """Return the files of a teacher that writes labels.

    Args:
        cfg: the student's, with this teacher alone.
        source: begins messages.
    """
    node, key = cfg.DISTILL.TEACHER, f"{TEACHER}.WEIGHTS"
    if is_average(node):
        raise UserError(
            f"{source}{key} is {AVERAGE}, and labels are written before there is a student: name trained teachers by "
            "TEACHER"
        )
    words = [*own_words(cfg), *words_of_teacher(node, keys)]
    if is_foreign(node) and node.KIND == "auto":
        words += ["MODEL.KIND", _kind(node)]
    if node.CONFIG_FILE:
        config = find_config(node.CONFIG_FILE, f"{TEACHER}.CONFIG_FILE")
        return Weights(node.WEIGHTS, config, False, key).under(*words)
    if not is_foreign(node):
        raise UserError(f"{source}{TEACHER}.CONFIG_FILE is empty: a teacher that writes labels needs one")
    imports = ["IMPORTS", str(list(cfg.IMPORTS))] if cfg.IMPORTS else []
    return Weights(node.WEIGHTS, "", True, key).under(*imports, *words)
