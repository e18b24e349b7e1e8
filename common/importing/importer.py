"""The importer of one source's checkpoints: what it reads, and what it makes of that."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from densedist.common.errors import UserError

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Foreign:
    """A checkpoint as it was read.

    Args:
        file: its path.
        tensors: by name, without a prefix that all names have, as "module." of DDP.
        meta: its other plain values, as mmdetection's "mmdet_version".
    """

    file: str
    tensors: Tensors
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Converted:
    """The same model in this suite's terms.

    Args:
        config: nested keys, plain data, that build the model.
        tensors: by the names of the model that is built.
        unused: for each tensor that the model has no place for, why.
        beside: tensors of parts that a checkpoint keeps apart from the model, by the part's name, as "aux_head".
        classes: how many the model predicts; 0 = the config says it.
        base: a packaged config that names the classes, where their number identifies the data set.
        partial: the tensors are of a part of the model, to start a training run from.
        check: raises UserError where the config, with the user's keys in it, no longer fits the tensors.
    """

    config: Mapping[str, Any]
    tensors: Tensors
    unused: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, Tensors] = field(default_factory=dict)
    classes: int = 0
    base: str = ""
    partial: bool = False
    check: Callable[[Any], None] = lambda _: None


@dataclass(frozen=True)
class Importer:
    """Reads the checkpoints of one source: a project, or one of its file formats.

    Args:
        source: its name, for --source.
        recognizes: says whether a checkpoint is likely of this source.
        convert: converts the checkpoint, by options; raises UserError for what cannot be converted.
        options: the choices of each option, the default first, for what the file does not say.
    """

    source: str
    recognizes: Callable[[Foreign], bool]
    convert: Callable[[Foreign, Mapping[str, str]], Converted]
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)


def choose(importers: Sequence[Importer], foreign: Foreign, source: str) -> Importer:
    """Return the importer of a source; without a name the only one that recognizes the checkpoint.

    Raises:
        UserError: an unknown source; no importer recognizes the checkpoint, or several do.
    """
    known = {importer.source: importer for importer in importers}
    if source:
        if source not in known:
            raise UserError(f"--source: there is no {source}; want {', '.join(known)}")
        return known[source]
    fitting = [importer for importer in importers if importer.recognizes(foreign)]
    if len(fitting) != 1:
        names = " or ".join(importer.source for importer in fitting)
        found = f"could be of {names}" if fitting else "is of no known source"
        first = next(iter(foreign.tensors), "missing")
        raise UserError(
            f"{foreign.file} {found} (its first tensor is {first}): name one with --source, of {', '.join(known)}"
        )
    return fitting[0]
