"""What the importer of one project's checkpoints has to say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from densedist.common.errors import UserError

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Foreign:
    """A checkpoint as it was found.

    Args:
        file: its path.
        tensors: by their own names, without a prefix that all have, as "module." of DDP.
        meta: the plain values beside them, e.g. of mmdetection "mmdet_version".
    """

    file: str
    tensors: Tensors
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Converted:
    """The same model in our terms.

    Args:
        config: nested keys, plain data, that build it.
        tensors: by the names of the model that is built.
        unused: of each tensor that our model has no place for, why.
        beside: tensors of parts that a checkpoint keeps beside the model, by the part's name, as "aux_head".
        classes: how many the model tells; 0 = the config says it.
        base: a packaged config that names the classes, where they are known by their number.
        partial: the tensors are of a part of the model, to start a training run from.
        check: whether the config still fits the tensors with the user's own keys in it; raises UserError.
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
class Form:
    """A kind of checkpoint.

    Args:
        name: for --form.
        recognizes: whether a checkpoint is likely one of this kind.
        convert: to our terms, of (the checkpoint, options by name); raises UserError for what cannot be converted.
        options: of convert: its choices by name, the default first, for what the file does not say.
    """

    name: str
    recognizes: Callable[[Foreign], bool]
    convert: Callable[[Foreign, Mapping[str, str]], Converted]
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)


def choose(forms: Sequence[Form], foreign: Foreign, name: str) -> Form:
    """The form of a name, or without one the only one that recognizes the checkpoint.

    Raises:
        UserError: an unknown name; none recognizes the checkpoint, or several do.
    """
    known = {form.name: form for form in forms}
    if name:
        if name not in known:
            raise UserError(f"--form: there is no {name}; want {', '.join(known)}")
        return known[name]
    fitting = [form for form in forms if form.recognizes(foreign)]
    if len(fitting) != 1:
        found = f"could be {' or '.join(form.name for form in fitting)}" if fitting else "is of no form that is known"
        first = next(iter(foreign.tensors), "missing")
        raise UserError(
            f"{foreign.file} {found} (its first tensor is {first}): say which with --form, of {', '.join(known)}"
        )
    return fitting[0]
