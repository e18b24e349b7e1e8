"""Fingerprints: what a result depends on, as named parts: config, data, teacher and code, by content and not by path.

What is taken from an earlier call has a fingerprint; one that differs is refused, with the parts that do.
"""

import ast
import hashlib
import importlib.util
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from densedist.common.config import trust
from densedist.common.config.files import read_file
from densedist.common.config.former_keys import current_parts
from densedist.common.config.keys import Key
from densedist.common.data.pace import THREADS
from densedist.common.data.sides import SIDES
from densedist.common.distill.registry import LOSSES, is_on
from densedist.common.errors import UserError
from densedist.common.files import write_text
from densedist.common.task import Task

# Parts by name, as plain data: text; or where what they hold counts, what it is called and a digest of it.
Fingerprint = dict[str, Any]
SETTLED = 2e9  # nanoseconds after a change in which another one may leave a file's times as they are
SHOWN = 3  # differences that a message names
SHORT = 120  # characters of a value that it shows

# Keys that change no number, and why.
NO_NUMBER: Mapping[str, str] = {
    "OUTPUT_DIR": "where files go",
    **dict.fromkeys(trust.KEYS, "what the user trusts"),
    "MODEL.DEVICE": "rounds otherwise, no more; a table may be printed on a machine without the GPU of the runs",
    "DISTILL.TEACHER.STREAM": "when the teacher runs",
    "DATALOADER.NUM_WORKERS": "random numbers depend on a sample's place in the order, not on who makes it",
    "DATALOADER.CHECK_FILES": "refuses, and changes nothing",
    "REHEARSAL": "refuses, and changes nothing",
    "SOLVER.CHECKPOINT_PERIOD": "which states are kept",
    "SOLVER.CHECKPOINTS_KEPT": "which states are kept",
    "TEST.EVAL_PERIOD": "how often one looks: each step has random numbers of its own",
    "TEST.EXAMPLES": "what is drawn",
    "TEST.SAVE_LABEL_IDS": "what is written",
    "VIS_PERIOD": "what is drawn",
    "TRACKERS": "who is told",
    # Where the data lie; what they hold is a part of its own.
    **{f"DATASETS.{key}": "a place" for key in ("ROOT", "FOLDERS", "COCO_FORMAT", "YOLO_FORMAT")},
    **{f"DATASETS.{key}": "a place" for key in ("VOC_FORMAT", "ADE20K_FORMAT")},
}


class Fingerprints:
    """The fingerprints of a task's runs; a file is read once, and again when its size or times have changed.

    Args:
        task: the configs' task.
        record: a JSON file of what files held, as an earlier call knew it; written by keep(). None = there is none.
    """

    def __init__(self, task: Task, record: Path | None = None) -> None:
        self._task, self._record = task, record
        self._known: dict[str, list[Any]] = json.loads(record.read_text()) if record and record.is_file() else {}
        self._sides: dict[str, str] = {}

    def of(self, cfg: CfgNode, only: Sequence[str] = ()) -> Fingerprint:
        """Return what the run of a config depends on.

        Args:
            cfg: as task.load_config returns it.
            only: beginnings of the names of parts; empty = all that training with cfg reads.
        """
        parts: Fingerprint = {"task": self._task.name}
        for key, value in _leaves(cfg):
            name = ".".join(key)
            if name in NO_NUMBER or not (name.startswith(tuple(only)) if only else _is_read(cfg, key)):
                continue
            if key[0] == "DATASETS" and key[-1] in SIDES:
                parts[name] = self._side(cfg, key[-1])
            elif name == "DISTILL.TEACHER.CACHE":
                parts[name] = "a folder" if value else ""  # which one is the same
            elif key[-1] == "IMPORTS":
                parts[name] = self._content(", ".join(value), [x for module in value for x in _code(module)])
            elif key[-1] == "CONFIG_FILE" and value:
                parts[name] = self.of_config(value)
            elif (key[-1] == "WEIGHTS" or key[-1].startswith("PROPOSAL_FILES")) and value:
                files = [value] if isinstance(value, str) else list(value)
                parts[name] = self._content(", ".join(files), [x for file in files for x in _files(file)])
            else:
                parts[name] = str(value)
        return parts

    def of_weights(self, path: str) -> dict[str, str]:
        """Return the part for trained weights."""
        return self._content(path, _files(path))

    def of_config(self, file: str) -> dict[str, str]:
        """Return the part for a config: what it says, with its _BASE_ chain and the code that it imports."""
        return self._content(file, self._config(file))

    def keep(self) -> None:
        """Write what is known of files."""
        if self._record is None:
            return
        self._record.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._record, json.dumps(self._known) + "\n")

    def _side(self, cfg: CfgNode, side: str) -> dict[str, str]:
        names = list(map(str, cfg.DATASETS[side]))
        key = f"{side} {cfg.DATASETS}"
        if key not in self._sides:
            # Results have the names of test sets.
            items = [*(names if side == "TEST" else []), *self._task.contents(cfg, side)]
            self._sides[key] = self._digest(items)
        return {"named": ", ".join(names), "sha256": self._sides[key]}

    def _config(self, file: str) -> list[str | Path]:
        """Return what a config file says, with its _BASE_ chain, and the code that it imports."""
        if not Path(file).is_file():
            return [file]
        said = {key: value for key, value in read_file(file, as_written=True).items() if key != "OUTPUT_DIR"}
        code = [x for module in said.pop("IMPORTS", []) for x in _code(str(module))]
        return [json.dumps(said, sort_keys=True, default=str), *code]

    def _content(self, name: str, items: Sequence[str | Path]) -> dict[str, str]:
        return {"named": name, "sha256": self._digest(items)}

    def _digest(self, items: Sequence[str | Path]) -> str:
        """Return a digest of texts and of files' contents, in their order."""
        files = list(dict.fromkeys(item for item in items if isinstance(item, Path)))
        with ThreadPool(THREADS) as pool:
            of_files = dict(zip(files, pool.map(self._of_file, files, chunksize=16), strict=True))
        digest = hashlib.sha256()
        for item in items:
            held = of_files[item] if isinstance(item, Path) else hashlib.sha256(item.encode()).hexdigest()
            digest.update(held.encode())
        return digest.hexdigest()

    def _of_file(self, file: Path) -> str:
        """Return a file's digest; "" for one that cannot be read, which whoever needs it refuses."""
        path = str(file.absolute())
        try:
            about = os.stat(path)
            stamp = [about.st_size, about.st_mtime_ns, about.st_ino]
            if (known := self._known.get(path)) and known[:-1] == stamp:
                return known[-1]
            with open(path, "rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError:
            return ""
        if time.time_ns() - about.st_mtime_ns > SETTLED:
            self._known[path] = [*stamp, digest]
        return digest


def of_model(model: nn.Module, **more: object) -> Fingerprint:
    """Return what decides what comes out of a model: its structure, its weights, and more as text.

    Args:
        more: values whose text tells them apart.
    """
    weights = hashlib.sha256()
    for name, value in chain(model.state_dict().items(), model.named_buffers()):  # some buffers are in no state_dict
        weights.update(name.encode())
        weights.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    structure = hashlib.sha256(str(model).encode())
    parts = {"structure": structure, "weights": weights}
    named = type(model).__name__
    return {name: {"named": named, "sha256": digest.hexdigest()} for name, digest in parts.items()} | {
        name: " ".join(str(value).split()) for name, value in more.items()
    }


def differences(then: Fingerprint, now: Fingerprint, keys: Mapping[str, Key] | None = None) -> list[str]:
    """Return what has changed, in words, as "SOLVER.BASE_LR, then 0.1, now 1e-07".

    Args:
        keys: of the task's grammar; one that was not there then had its default.
    """
    found, then, keys = [], current_parts(then), keys or {}
    weights = {f"DISTILL.{loss}.WEIGHT" for loss in LOSSES}  # which are there where they are not 0
    for name in dict.fromkeys([*now, *then]):
        old, new = then.get(name, ""), now.get(name, "")
        if name not in then and name in keys and name not in weights and _is_default(new, keys[name]):
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            if old["sha256"] == new["sha256"]:
                continue
            if old["named"] == new["named"]:
                found.append(f"other content of {name}, {new['named']}")
                continue
        if old != new:
            before, after = _named(old), _named(new)
            short = max(len(before), len(after)) <= SHORT
            found.append(f"{name}, then {before}, now {after}" if short else f"another {name}")
    return found


def changed_keys(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words what a config says otherwise than another one that has the same keys.

    Keys that one of them does not have, and those of NO_NUMBER, are left out.

    Args:
        then, now: plain data, as config.yaml holds it.
    """
    before, after = ({".".join(key): str(value) for key, value in _leaves(one)} for one in (then, now))
    both = [name for name in before if name in after and name not in NO_NUMBER]
    return differences({name: before[name] for name in both}, {name: after[name] for name in both})


def refuse_another(source: str, then: Fingerprint | None, now: Fingerprint, keys: Mapping[str, Key]) -> None:
    """Refuse what was made before with other settings.

    Args:
        source: what was made, for messages.
        then: its fingerprint; None = it has none.
        keys: see differences.

    Raises:
        UserError: it was made with other settings, or has no fingerprint.
    """
    if then is None:
        raise UserError(
            f"{source} was written by an earlier version, which did not record its settings: name another --output-dir"
        )
    if found := differences(then, now, keys):
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UserError(
            f"{source} has other settings: {'; '.join(found[:SHOWN])}{more}: give the same, or another --output-dir"
        )


def _is_default(part: Any, key: Key) -> bool:
    """Return whether a part says a key's default, which is empty where the part is of contents."""
    return part["named"] == "" if isinstance(part, dict) else part == str(key.default)


def _named(part: Any) -> str:
    return (part["named"] if isinstance(part, dict) else str(part)) or "nothing"


def _leaves(node: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the keys of a config with their values; lists of groups, as DISTILL.TEACHER.MORE, are groups too."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, (*above, str(key)))
    elif isinstance(node, (list, tuple)) and node and above[-1] == "MORE":
        for number, value in enumerate(node, 1):
            yield from _leaves(value, (*above, str(number)))
    else:
        yield above, node


def _is_read(cfg: CfgNode, key: tuple[str, ...]) -> bool:
    """Return whether training reads a key: of DISTILL only where it is on, and so is the loss."""
    if key[0] != "DISTILL":
        return True
    return is_on(cfg.DISTILL) and (key[1] not in LOSSES or cfg.DISTILL[key[1]].WEIGHT > 0)


def _files(path: str) -> list[str | Path]:
    """Return what weights consist of: a file with ONNX's data next to it, the files of a folder, or a name."""
    place = Path(path).expanduser()
    if place.is_dir():
        return [item for file in sorted(place.rglob("*")) if file.is_file() for item in (file.name, file)]
    if place.is_file():
        return [place, *sorted(place.parent.glob(f"{place.name}?data*"))]
    return [path]


def _code(module: str) -> list[str | Path]:
    """Return the files of a module of IMPORTS: of a package all, of a .py file also those in its folder that it
    imports."""
    if module.endswith(".py"):
        return list(_with_neighbors(Path(module)))
    spec = importlib.util.find_spec(module.partition(".")[0])
    folders = list(spec.submodule_search_locations or []) if spec else []
    if folders:
        return [file for folder in folders for file in sorted(Path(folder).rglob("*.py"))]
    return [Path(spec.origin)] if spec and spec.origin else [module]


def _with_neighbors(file: Path) -> list[Path]:
    found: list[Path] = []
    waiting = [file]
    while waiting:
        if (one := waiting.pop()) in found or not one.is_file():
            continue
        found.append(one)
        for node in ast.walk(ast.parse(one.read_bytes())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            parts = [name.replace(".", "/") for name in names if name]
            waiting += [file.parent / place for part in parts for place in (f"{part}.py", f"{part}/__init__.py")]
    return [file, *sorted(set(found) - {file})]
