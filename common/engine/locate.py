"""What a training leaves in its OUTPUT_DIR for others: the weights, and the config that says what they are."""

import logging
from pathlib import Path

from detectron2.config import CfgNode

from densedist.common.config.merge import find_config, read
from densedist.common.errors import UserError

logger = logging.getLogger(__name__)
CONFIG, FINAL = "config.yaml", "model_final.pth"


def locate(weights: str, config_file: str = "", key: str = "--weights") -> tuple[str, str]:
    """The files of trained weights and of their config.

    Args:
        weights: a checkpoint, or the OUTPUT_DIR of a finished training.
        config_file: another config than the one that lies beside the weights.
        key: the option that names the weights, for messages.

    Raises:
        UserError: neither is there.
    """
    path = Path(weights)
    run = path / CONFIG
    if path.is_dir() and run.is_file():
        path = path / FINAL
        if not path.is_file():
            raise UserError(f"{key}: there is no {path}: its training has not ended; name another checkpoint")
    elif not path.exists():
        raise UserError(f"{key}: there is no file {weights}")
    config = Path(config_file) if config_file else run if run.is_file() else path.parent / CONFIG
    if not config_file and not config.is_file():
        hint = "name its config with --config-file" if key == "--weights" else "put its config there"
        raise UserError(f"{key}: no {CONFIG} lies beside {weights}: {hint}")
    return str(path), str(config)


def locate_teacher(teacher: CfgNode, given: str) -> tuple[str, str] | None:
    """The files of a student's teacher, as of locate; None if it has none.

    Args:
        teacher: DISTILL.TEACHER of the student's config.
        given: another teacher's weights, or "none"; empty = the one of the config.

    Raises:
        UserError: its files are gone.
    """
    if given == "none" or not (given or teacher.WEIGHTS):
        return None
    if given:
        return locate(given, key="--teacher")
    try:
        config_file = find_config(teacher.CONFIG_FILE, "DISTILL.TEACHER.CONFIG_FILE") if teacher.CONFIG_FILE else ""
        return locate(teacher.WEIGHTS, config_file, "DISTILL.TEACHER.WEIGHTS")
    except UserError as error:
        raise UserError(f"{error}; name the teacher with --teacher, or give --teacher none") from error


def task(config_file: str) -> str:
    """ "seg" or "det", the package that the keys of a config are of.

    Raises:
        UserError: no such file, or one that is no plain YAML.
    """
    model = read(config_file).get("MODEL")
    return "seg" if isinstance(model, dict) and {"ARCHITECTURE", "ENCODER"} & set(model) else "det"


def with_teacher(cfg: CfgNode, weights: str = "") -> CfgNode | None:
    """A copy of a run's config that names a teacher whose files are there, in float32; None without one.

    Args:
        cfg: of the run, with the teacher that it learnt from.
        weights: another teacher: a checkpoint, or the OUTPUT_DIR of a finished training; or "none".

    Raises:
        UserError: there is no teacher at weights.
    """
    cfg = cfg.clone()
    cfg.defrost()
    node = cfg.DISTILL.TEACHER
    if weights == "none":
        return None
    if weights:
        node.WEIGHTS, node.CONFIG_FILE = locate(weights, key="--teacher")
    elif not node.WEIGHTS:
        return None
    elif "://" not in node.WEIGHTS and not Path(node.WEIGHTS).exists():
        logger.warning(f"without its teacher, whose weights {node.WEIGHTS} are not there: --teacher names another")
        return None
    node.PRECISION = "float32"
    return cfg
