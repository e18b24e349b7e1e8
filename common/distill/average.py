"""The student's own average as its teacher: DISTILL.TEACHER.WEIGHTS average.

This is the mean teacher of Tarvainen & Valpola (NeurIPS 2017), by which Unbiased Teacher and Soft Teacher train
detectors. The average is that of SOLVER.EMA_DECAY, which is evaluated and saved as the student: the engine lets it
begin as the student begins, and updates it after each step (common/engine/hooks.py).
"""

from collections.abc import Mapping
from typing import Any

from fvcore.common.config import CfgNode

from densedist.common.config.keys import Key
from densedist.common.errors import UserError

AVERAGE = "average"  # a value of DISTILL.TEACHER.WEIGHTS; a folder of that name is ./average
TEACHER = "DISTILL.TEACHER"
# The keys of DISTILL.TEACHER that mean something for an average.
FITTING = ("WEIGHTS", "MORE", "INPUT_SCALE", "CASCADE_STAGES", "KEPT_MASS", "STREAM", "PRECISION")


def is_average(teacher: CfgNode) -> bool:
    """Return whether a DISTILL.TEACHER, or one of its MORE, is the student's own average."""
    return teacher["WEIGHTS"] == AVERAGE


def unfit_keys(keys: Mapping[str, Key]) -> dict[str, Any]:
    """Return the defaults of the keys of DISTILL.TEACHER that an average has no use for, by their last names.

    Args:
        keys: of the task.
    """
    of_teacher = {name.removeprefix(f"{TEACHER}."): key for name, key in keys.items() if name.startswith(f"{TEACHER}.")}
    return {name: key.default for name, key in of_teacher.items() if name not in FITTING}


def check_average(cfg: CfgNode, keys: Mapping[str, Key]) -> None:
    """Refuse what an average cannot be, or do, as a teacher.

    Args:
        cfg: the student's, with this teacher alone.
        keys: of the task.

    Raises:
        UserError: no SOLVER.EMA_DECAY, or a key that is for a teacher with files of its own.
    """
    node = cfg.DISTILL.TEACHER
    if not cfg.SOLVER.EMA_DECAY:
        raise UserError(
            f"{TEACHER}.WEIGHTS is {AVERAGE}, and SOLVER.EMA_DECAY is 0: set it to the decay of the average, e.g. 0.999"
        )
    if node.PRECISION not in ("auto", "float32"):
        raise UserError(
            f"{TEACHER}.PRECISION is {node.PRECISION}, and the student's {AVERAGE} is kept in float32: set it to auto"
        )
    for name, default in unfit_keys(keys).items():
        if node[name] != default:
            value, default = (dict(one) if isinstance(one, CfgNode) else one for one in (node[name], default))
            raise UserError(
                f"{TEACHER}.{name} is {value}, which has no effect on the student's {AVERAGE}: leave it at {default!r}"
            )
