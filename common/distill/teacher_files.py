"""DISTILL.TEACHER and the files that it names: those of a run, of another teacher, or of none."""

import logging
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from densedist.common.config.files import find_config
from densedist.common.config.functions import NAME
from densedist.common.config.keys import Key
from densedist.common.distill.average import AVERAGE, TEACHER, is_average, unfit_keys
from densedist.common.errors import UserError
from densedist.common.run_files import CONFIG, Weights, locate

logger = logging.getLogger(__name__)
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(?<!\.pth)(?<!\.pt2)(?<!\.onnx)(?<!\.torchscript)")


def locate_teacher(teacher: CfgNode, given: str) -> Weights | None:
    """Find the files of a student's teacher; None if it has none, as the student's own average.

    Args:
        teacher: DISTILL.TEACHER of the student's config.
        given: another teacher's weights, or "none"; empty = the one of the config.

    Raises:
        UserError: its files are gone.
    """
    if given == "none" or not (given or (teacher.WEIGHTS and not is_average(teacher))):
        return None
    if given:
        return locate(given, key="--teacher")
    try:
        config_file = find_config(teacher.CONFIG_FILE, "DISTILL.TEACHER.CONFIG_FILE") if teacher.CONFIG_FILE else ""
        found = locate(teacher.WEIGHTS, config_file, "DISTILL.TEACHER.WEIGHTS")
        return Weights(found.file, found.config, False, found.key)
    except UserError as error:
        raise UserError(f"{error}; name the teacher with --teacher, or give --teacher none") from error


def name_files(teacher: CfgNode) -> None:
    """Replace in place an OUTPUT_DIR of a finished run in WEIGHTS by its files; a CONFIG_FILE that is given stays.

    Args:
        teacher: DISTILL.TEACHER of the student's config.

    Raises:
        UserError: the run has not ended.
    """
    if teacher.WEIGHTS and not is_average(teacher) and Path(teacher.WEIGHTS, CONFIG).is_file():
        found = locate(teacher.WEIGHTS, key="DISTILL.TEACHER.WEIGHTS")
        teacher.WEIGHTS, teacher.CONFIG_FILE = found.file, teacher.CONFIG_FILE or found.config


def on_hub(teacher: CfgNode) -> bool:
    """Return whether WEIGHTS can only be an id of Hugging Face's hub, "owner/name": there is no config, no such path,
    and no folder of the owner's name, in which a path would be mistyped."""
    named = not teacher.CONFIG_FILE and HUB_ID.fullmatch(teacher.WEIGHTS)
    return bool(named) and not Path(teacher.WEIGHTS).exists() and not Path(teacher.WEIGHTS).parent.is_dir()


def keys_of_another(keys: Mapping[str, Key], found: Weights) -> dict[str, Any]:
    """Return the keys of DISTILL.TEACHER that name another teacher; keys about the former one's files become default.

    Args:
        keys: of the task.
        found: another teacher's files.
    """
    default = {name.removeprefix(f"{TEACHER}."): key.default for name, key in keys.items() if key.of_files}
    return {"WEIGHTS": found.file, "CONFIG_FILE": found.config} | default


def keys_of_others(keys: Mapping[str, Key], names: Sequence[str], key: str) -> dict[str, Any]:
    """Return the keys of DISTILL.TEACHER that name one teacher or several, as keys_of_another does of one.

    Args:
        keys: of the task.
        names: the OUTPUT_DIR of each teacher's run, or AVERAGE.
        key: what names them, for messages.

    Raises:
        UserError: one is not there.
    """
    found = [Weights(AVERAGE, "", True) if name == AVERAGE else locate(name, key=key) for name in names]
    given = keys_of_another(keys, found[0])
    if more := found[1:]:
        given["MORE"] = [{"CONFIG_FILE": one.config, "WEIGHTS": one.file} for one in more]
    if AVERAGE not in names:
        return given
    # Of what an average has no use for, the first teacher keeps what is its own. Groups of keys no override empties.
    unfit = {name: x for name, x in unfit_keys(keys).items() if not isinstance(x, CfgNode)}
    return {name: x for name, x in unfit.items() if names[0] == AVERAGE or keys[f"{TEACHER}.{name}"].of_all} | given


def words_of_teacher(teacher: CfgNode, keys: Mapping[str, Key]) -> list[str]:
    """Return the overrides of a teacher's own config that DISTILL.TEACHER says in its place.

    Args:
        teacher: DISTILL.TEACHER of the student's config.
        keys: of the task.
    """
    words = []
    for name, key in keys.items():
        if key.stands_for and (value := teacher[name.removeprefix(f"{TEACHER}.")]) != key.default:
            words += [key.stands_for, str(value)]
    return words


def with_teacher(cfg: CfgNode, keys: Mapping[str, Key], given: str = "") -> CfgNode | None:
    """Return a copy of a run's config that names an existing teacher, in float32; None without one. The student's own
    average, which is that student, is left out.

    Args:
        cfg: of the run, with the teacher that it learned from.
        keys: of the task.
        given: another teacher: a checkpoint, or the OUTPUT_DIR of a finished run; or "none".

    Raises:
        UserError: there is no teacher where given says.
    """
    cfg = cfg.clone()
    cfg.defrost()
    node = cfg.DISTILL.TEACHER
    if given == "none":
        return None
    if given:
        found = locate(given, key="--teacher")
        node.update(deepcopy(keys_of_another(keys, found)))
    elif not node.WEIGHTS or is_average(node):
        return None
    elif not ("://" in node.WEIGHTS or NAME.fullmatch(node.WEIGHTS) or Path(node.WEIGHTS).exists() or on_hub(node)):
        logger.warning(f"the teacher is left out, as its weights {node.WEIGHTS} are not there: --teacher names another")
        return None
    node.PRECISION, node.CACHE = "float32", ""
    node.MORE = [more for more in node.MORE if more.get("WEIGHTS") != AVERAGE]
    return cfg
