"""Import a checkpoint: read, convert, try, and write it as the OUTPUT_DIR of a run."""

import json
from collections.abc import Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from densedist.common.config import find_config, read_file, trust
from densedist.common.errors import UserError
from densedist.common.files import write_atomic, write_text
from densedist.common.importing.importer import Converted, Foreign, Importer, choose
from densedist.common.importing.reading import read_foreign
from densedist.common.locks import claimed, refuse_files
from densedist.common.run_files import CONFIG, FINAL
from densedist.common.task import Task

RECORD = "imported.json"  # where it came from


def import_checkpoint(
    task: Task,
    file: str,
    output: Path,
    source: str = "",
    options: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    base: str = "",
) -> dict[str, Any]:
    """Write config.yaml, model_final.pth and imported.json in output, which is then named like a run's OUTPUT_DIR.

    Args:
        source: names one of task.importers; empty = the one that recognizes the file.
        options: that importer's options by name.
        overrides: KEY VALUE … that go into the config; keys of trust hold for this call alone.
        base: a config whose DATASETS the teacher has, too; empty = as its number of classes says.

    Returns:
        the content of imported.json.

    Raises:
        UserError: a file that is unreadable, of another source or architecture; a folder that has files.
    """
    with claimed(output, "--output-dir"):
        refuse_files(output, "--output-dir")
        return _import(task, file, output, source, options, overrides, base)


def _import(
    task: Task,
    file: str,
    output: Path,
    source: str,
    options: Mapping[str, str] | None,
    overrides: Sequence[str],
    base: str,
) -> dict[str, Any]:
    if len(overrides) % 2:
        raise UserError(f"overrides are KEY VALUE pairs, but {overrides[-1]} has no value")
    given = dict(zip(overrides[::2], overrides[1::2], strict=True))
    trusted = {key: given.pop(key, "False").lower() == "true" for key in trust.KEYS}
    foreign = read_foreign(file, trusted[trust.PICKLE])
    chosen = choose(task.importers, foreign, source)
    converted = _convert(chosen, foreign, options or {})
    try:
        _write(task, converted, given, base, output)
        record = _record(chosen, foreign, converted)
        write_text(output / RECORD, json.dumps(record, indent=1) + "\n")
    except BaseException:
        for name in (CONFIG, FINAL, RECORD):
            (output / name).unlink(missing_ok=True)
        raise
    return record


def _convert(importer: Importer, foreign: Foreign, options: Mapping[str, str]) -> Converted:
    for name, value in options.items():
        if name not in importer.options:
            raise UserError(f"--option: {importer.source} has no {name}; want {', '.join(importer.options) or 'none'}")
        if value not in importer.options[name]:
            raise UserError(f"--option: {name} is {value}: want {' or '.join(importer.options[name])}")
    try:
        return importer.convert(foreign, {name: values[0] for name, values in importer.options.items()} | dict(options))
    except UserError as error:
        raise UserError(f"{foreign.file} as {importer.source}: {error}") from error


def _write(task: Task, converted: Converted, overrides: Mapping[str, str], base: str, output: Path) -> None:
    config = _with(converted.config, overrides)
    if named := base or converted.base:
        data = read_file(find_config(named, "--config-file")).get("DATASETS", {})
        config["DATASETS"] = {**data, **config.get("DATASETS", {})}
    elif converted.classes and not config.get("DATASETS", {}).get("CLASSES"):
        raise UserError(_classes(converted.classes, "nothing that names them"))
    write_text(output / CONFIG, yaml.safe_dump(config, sort_keys=False))
    content = {"model": dict(converted.tensors), **{name: dict(part) for name, part in converted.beside.items()}}
    write_atomic(output / FINAL, lambda file: torch.save(content, file))
    imports = ["IMPORTS", overrides["IMPORTS"]] if "IMPORTS" in overrides else []  # the user names them
    cfg = task.read_config(str(output / CONFIG), ["MODEL.DEVICE", "cpu", *imports], False)
    converted.check(cfg)
    if converted.classes and (count := len(cfg.DATASETS.CLASSES)) != converted.classes:
        raise UserError(_classes(converted.classes, f"a config with {count}"))
    if converted.partial:
        model: nn.Module = task.build(cfg).student
    else:
        model = task.plain(task.load_model(cfg, str(output / FINAL), "the converted weights"), cfg)
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if left := sorted(name for name, tensor in converted.tensors.items() if wanted.get(name) != tensor.shape):
        raise UserError(
            f"{len(left)} tensors of the file are missing in the model that the config builds, or have another shape, "
            f"first {left[0]}"
        )


def _classes(count: int, instead: str) -> str:
    return f"the file has {count} classes, and {instead}: name with --config-file a config whose DATASETS.CLASSES fit"


def _with(config: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """Return the config with these keys in it."""
    changed: dict[str, Any] = json.loads(json.dumps(config))
    for key, value in overrides.items():
        node = changed
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = yaml.safe_load(value)
    return changed


def _record(importer: Importer, foreign: Foreign, converted: Converted) -> dict[str, Any]:
    with Path(foreign.file).open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    return {
        "file": str(Path(foreign.file).resolve()),
        "sha256": digest,
        "source": importer.source,
        "tensors": len(foreign.tensors),
        "partial": converted.partial,
        "unused": dict(converted.unused),
    }
