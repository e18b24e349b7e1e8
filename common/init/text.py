"""Plain data as YAML on one line, and the names and beginnings of configs."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from densedist.common.init.schedule import Schedule

BASE, TEACHER, STUDENT = "base.yaml", "teacher.yaml", "student.yaml"


def inline(value: Any) -> str:
    """Return plain data as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=2**31, allow_unicode=True, sort_keys=False)
    return text.strip().removesuffix("...").strip()


def lines(entries: Iterable[Any], indent: int) -> str:
    """Return the lines of a list with an entry on each, after so many blanks."""
    return "\n".join(f"{' ' * indent}- {inline(entry)}" for entry in entries)


def data_keys(keys: Mapping[str, Any]) -> str:
    """Return keys of DATASETS, each on a line, with a line for each entry of a list of lists."""
    found = []
    for key, value in keys.items():
        rows = isinstance(value, list) and value and isinstance(value[0], list)
        found.append(f"  {key}:\n{lines(value, 4)}" if rows else f"  {key}: {inline(value)}")
    return "\n".join(found)


def solver(chosen: Schedule, images: int, rate: float, scheduler: str, test: str = "") -> str:
    """Return SOLVER and TEST of a config; `test` is more of TEST."""
    return f"""\
SOLVER:
  OPTIMIZER: AdamW
  BASE_LR: {rate}
  WEIGHT_DECAY: 0.02
  IMS_PER_BATCH: {chosen.batch}
  MAX_ITER: {chosen.iterations}  # each of {images} images about {chosen.passes} times; longer is often better
  LR_SCHEDULER_NAME: {scheduler}
  WARMUP_ITERS: {chosen.warmup}
  CLIP_GRADIENTS: {{ENABLED: true, CLIP_TYPE: norm, CLIP_VALUE: 1.0}}
TEST: {{{test}EVAL_PERIOD: {chosen.period}}}
SEED: 0
VERSION: 2
"""


def teach(folder: str, keys: str = "") -> str:
    """Return the keys of a student that name its teacher, the run in a folder, and more keys of DISTILL."""
    return f"""\
# The teacher: the run of teacher.yaml. To take one of your own instead, name the folder of its run here, or its weights
# and its CONFIG_FILE; docs/teachers.md has all that can teach. teacher.yaml is then not needed.
DISTILL:
  TEACHER: {{WEIGHTS: {inline(folder)}}}
{keys}"""
