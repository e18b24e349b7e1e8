"""Configs are data: loaded safely, and wrong ones refused in one line."""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode

from densedist.common.errors import UserError
from densedist.common.distill.registry import add_keys

MODEL_ZOO = Path(str(files("detectron2"))) / "model_zoo" / "configs"

LEAST = {
    "SOLVER.MAX_ITER": 1,
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.UNLABELED_IMS_PER_BATCH": 0,
    "SOLVER.BASE_LR": 0.0,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.CHECKPOINTS_KEPT": 0,
    "SOLVER.ACCUMULATION_STEPS": 1,
    "SOLVER.MAX_SKIPPED_STEPS": 0,
    "DATALOADER.NUM_WORKERS": 0,
    "TEST.EVAL_PERIOD": 0,
    "TEST.EXAMPLES": 0,
}
# What yacs says of a value of the wrong type: a class each, then the values.
MISMATCH = re.compile(
    r"Type mismatch \(<class '(?:.*\.)?(\w+)'> vs\. <class .*'>\) with values \(.* vs\. (.*)\) for .*: (.*)"
)
KINDS = {
    "CfgNode": "a group of keys",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
}
KINDS |= {"list": "a list, as ['one', 'two']", "tuple": "a list, as ['one', 'two']"}


class _Reader(CfgNode):
    """Reads a file and its _BASE_ chain without executing code from it.

    The one exception are the files of the model zoo inside the installed Detectron2 package: its
    RetinaNet base computes its anchor sizes with a YAML tag.
    """

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict:
        path = Path(filename)
        if not path.is_file():
            raise UserError(f"config file {filename} does not exist")
        in_zoo = MODEL_ZOO.resolve() in path.resolve().parents
        try:
            loaded = super().load_yaml_with_base(filename, allow_unsafe=in_zoo)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"config file {filename} is not plain YAML data: {reason}") from error
        except RecursionError as error:
            raise UserError(f"config file {filename}: its chain of _BASE_ comes back to itself") from error
        except (TypeError, AttributeError) as error:
            raise UserError(
                f"config file {filename} is no set of keys and values, or its _BASE_ no file name"
            ) from error
        if not isinstance(loaded, dict):
            raise UserError(f"config file {filename} is no set of keys and values")
        return loaded


def add_common_keys(cfg: CfgNode) -> None:
    """Add the keys that detection and segmentation share, with their defaults, to cfg in place."""
    cfg.SOLVER.OPTIMIZER = "SGD"  # or "AdamW"
    cfg.SOLVER.POLY_LR_POWER = 0.9  # of LR_SCHEDULER_NAME WarmupPolyLR
    cfg.SOLVER.AMP.PRECISION = "float16"  # or "bfloat16"; where AMP.ENABLED
    cfg.SOLVER.ACCUMULATION_STEPS = 1  # IMS_PER_BATCH is seen in so many parts; the gradients are averaged
    cfg.SOLVER.EMA_DECAY = 0.0  # above 0: an average of the weights is evaluated and saved as the student
    cfg.SOLVER.MAX_SKIPPED_STEPS = 0  # because a loss is not finite; one more ends the run
    cfg.SOLVER.CHECKPOINTS_KEPT = 3  # of the numbered ones; 0 = all
    # Data sets whose labels, if there are any, are not looked at: only distillation learns from them.
    cfg.DATASETS.UNLABELED = []
    cfg.SOLVER.UNLABELED_IMS_PER_BATCH = 0  # added to IMS_PER_BATCH; 0 = as many again
    cfg.TEST.EXAMPLES = 4  # test images shown in report.html; 0 = none
    cfg.TRACKERS = []  # wandb, mlflow: also send the numbers there
    cfg.DATALOADER.CHECK_FILES = True  # look at every image file before training (see common/images.py)
    cfg.MODEL.TRUST_PICKLE = False  # whether to load .pkl weights, which can run any code (see common/weights.py)
    cfg.DISTILL = CfgNode()
    cfg.DISTILL.TEACHER = CfgNode()
    cfg.DISTILL.TEACHER.CONFIG_FILE = ""  # a path, or a name in Detectron2's model zoo
    cfg.DISTILL.TEACHER.WEIGHTS = ""
    # float32, float16, bfloat16, or auto: float16 on a GPU, else float32
    cfg.DISTILL.TEACHER.PRECISION = "auto"
    add_keys(cfg.DISTILL)  # of each loss, with WEIGHT; 0 switches it off
    cfg.DISTILL.SYNC = False  # DIST, KD, RKD and PKD over the batch of all processes
    # A factor on all of them: a linear rise from 0, then constant ("none"), or "linear" or "cosine" down to 0
    cfg.DISTILL.WARMUP_ITERS = 0
    cfg.DISTILL.DECAY = "none"


def read(config_file: str) -> dict:
    """What a file and its _BASE_ chain say, checked no further.

    Raises:
        UserError: no such file, or one that is no plain YAML.
    """
    return _Reader.load_yaml_with_base(config_file)


def merge(cfg: CfgNode, config_file: str, overrides: Sequence[str] = ()) -> None:
    """Merge a file, then KEY VALUE overrides, into cfg in place.

    A device "cuda" becomes "cpu" where there is no GPU.

    Raises:
        UserError: a missing or unreadable file, an unknown key, a wrong type, a value out of range, a key without
            a value.
    """
    if config_file:
        with _refusing_in_one_line(cfg, config_file):
            loaded = CfgNode(_Reader.load_yaml_with_base(config_file))
            if loaded.setdefault("VERSION", cfg.VERSION) != cfg.VERSION:
                raise UserError(f"{config_file}: VERSION {loaded.VERSION} is too old: want {cfg.VERSION}")
            _ints_to_floats(loaded, cfg)
            cfg.merge_from_other_cfg(loaded)
    if len(overrides) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs, but {overrides[-1]} has no partner")
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        with _refusing_in_one_line(cfg, "the command line"):
            _allow_new(cfg, key)
            is_float = isinstance(_value(cfg, key), float) and value.lstrip("+-").isdigit()
            cfg.merge_from_list([key, float(value) if is_float else value])
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    _check_ranges(cfg)


def _check_ranges(cfg: CfgNode) -> None:
    for key, least in LEAST.items():
        if _value(cfg, key) < least:
            raise UserError(f"{key} is {_value(cfg, key)}: want {least} or more")
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as error:
        raise UserError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE}: want cpu, cuda, or cuda:0 and so on") from error
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise UserError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but this machine has {count} GPUs, counted from 0")


def find_config(name: str, key: str) -> str:
    """The path of a config given as a path or as a name in Detectron2's model zoo.

    Raises:
        UserError: naming the key, where neither exists.
    """
    for path in (Path(name).expanduser(), MODEL_ZOO / name):
        if path.is_file():
            return str(path)
    raise UserError(f"{key}: {name} is neither a file nor a config of Detectron2's model zoo")


@contextmanager
def _refusing_in_one_line(cfg: CfgNode, source: str) -> Iterator[None]:
    """Turns what yacs raises into a UserError that names the key and the source it came from."""
    try:
        yield
    except (KeyError, ValueError, AssertionError) as error:
        reason = " ".join(str(error.args[0] if error.args else error).split())
        head, _, key = reason.partition(": ")
        if head in ("Non-existent config key", "Non-existent key"):
            names = {name.upper(): name for name in _keys(cfg)}
            near = [names[name] for name in difflib.get_close_matches(key.upper(), names, n=3)]
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UserError(f"unknown config key {key} in {source}{hint}") from error
        if mismatch := MISMATCH.fullmatch(reason):
            kind, value, key = mismatch.groups()
            raise UserError(f"{key} is {value} in {source}: want {KINDS.get(kind, kind)}") from error
        raise UserError(f"{source}: {reason}") from error


def _ints_to_floats(loaded: CfgNode, cfg: CfgNode) -> None:
    """Let 1 stand for 1.0, which yacs refuses."""
    for key, value in loaded.items():
        current = cfg.get(key)
        if isinstance(value, CfgNode) and isinstance(current, CfgNode):
            _ints_to_floats(value, current)
        elif type(value) is int and isinstance(current, float):
            loaded[key] = float(value)


def _allow_new(cfg: CfgNode, key: str) -> None:
    """Make room for a key of a node that takes any, which yacs does for files only."""
    parent, _, name = key.rpartition(".")
    node = _value(cfg, parent)
    if isinstance(node, CfgNode) and node.is_new_allowed():
        node.setdefault(name, None)


def _value(cfg: CfgNode, key: str) -> Any:
    """The value of a dotted key, None if there is none."""
    for name in key.split("."):
        cfg = cfg.get(name) if isinstance(cfg, CfgNode) else None
    return cfg


def _keys(cfg: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in cfg.items():
        yield prefix + key
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{key}.")
