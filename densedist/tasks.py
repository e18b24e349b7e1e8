"""The two tasks by name, and which one a config is of."""

from densedist.common.config import find_config, read_file
from densedist.common.errors import UserError
from densedist.common.task import Task


def task_named(name: str) -> Task:
    """Return the task "det" or "seg"; the other one need not even be importable."""
    if name == "det":
        from densedist.det.task import TASK as DET

        return DET
    from densedist.seg.task import TASK as SEG

    return SEG


def task_of(config_file: str, key: str = "--config-file") -> Task:
    """Return the task that TASK in a config names.

    Without it a config is Detectron2's own, hence of detection; but for one of segmentation from before there was
    TASK, whose models have an architecture of SMP.

    Args:
        config_file: a path or a name (see find_config).

    Raises:
        UserError: no such file, one that is no plain YAML, or of another task.
    """
    path = find_config(config_file, key)
    content = read_file(path)
    model = content.get("MODEL")
    default = "seg" if isinstance(model, dict) and {"ARCHITECTURE", "ENCODER"} & set(model) else "det"
    name = content.get("TASK", default)
    if name not in ("det", "seg"):
        raise UserError(f"TASK is {name} in {path}: want det or seg")
    return task_named(name)


def choose_task(name: str, config_file: str) -> Task:
    """Return the task of a name; where it is empty, that of a config (see task_of)."""
    return task_named(name) if name else task_of(config_file)
