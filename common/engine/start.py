"""What a student starts from: as much of a checkpoint as fits it. What does not is said; too little is refused."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from fvcore.common.checkpoint import _IncompatibleKeys
from torch import nn

from densedist.common.engine.checkpoint import SafeCheckpointer
from densedist.common.errors import UserError
from densedist.common.logging import quiet

# The least share of a part's values. With four input channels or deformable convolutions a backbone still has nearly
# all of its values from one without; of another depth it has about half, and of another width next to none.
ENOUGH = 0.75
SHOWN = 6  # modules in a line


@dataclass(frozen=True)
class Start:
    """What weights give to a student.

    Args:
        unfilled: names of the student's tensors that do not come from them.
        note: how much does, and what does not, in words; "" where everything does, or there are no weights.
    """

    unfilled: Sequence[str] = ()
    note: str = ""


def load_start(model: nn.Module, weights: str, key: str, trust_pickle: bool, trunk: str) -> Start:
    """Let a model start from what fits it of weights, as Detectron2 does.

    Args:
        weights: a file, or one of Detectron2's catalog names; empty = the model stays as it is.
        key: what the user would change, for messages: a config key or an option.
        trust_pickle: MODEL.TRUST_PICKLE.
        trunk: the name in the model of its backbone or encoder; "" if it has none.

    Raises:
        UserError: no such file, an unreadable or untrusted one, or one of another model: if it has a trunk, it fills
            less than ENOUGH of the model's, and else of every part.
    """
    if not weights:
        return Start()
    checkpointer = _Starting(model, "", key, trust_pickle)
    checkpointer.load(weights)
    filling = _Filling(model, checkpointer.unfilled)
    _refuse_another_model(filling, checkpointer, trunk, f"{key}: {weights}")
    return Start(checkpointer.unfilled, _note(filling, checkpointer.unused))


class _Starting(SafeCheckpointer):
    """Leaves what does not fit to Start.note, one line in place of one for each tensor."""

    def _load_model(self, checkpoint: dict) -> _IncompatibleKeys:
        with quiet():
            return super()._load_model(checkpoint)

    def _log_incompatible_keys(self, incompatible: _IncompatibleKeys) -> None:
        pass


class _Filling:
    """How much of a model comes from weights, counted in values of its parameters.

    Args:
        unfilled: names of the model's tensors that do not.
    """

    def __init__(self, model: nn.Module, unfilled: Collection[str]) -> None:
        kept = model.state_dict().keys()  # adapters are kept apart from the model
        self.model, self.sizes = model, {name: p.numel() for name, p in model.named_parameters() if name in kept}
        self.filled = {name: size for name, size in self.sizes.items() if name not in set(unfilled)}
        self.parts = [name for name, _ in model.named_children() if _total(self.sizes, name)]

    def share(self, module: str) -> float:
        """Return how much of a module, by its name, comes from the weights."""
        return _total(self.filled, module) / max(_total(self.sizes, module), 1)

    def lacking(self, module: nn.Module, prefix: str = "") -> Iterator[str]:
        """Yield the outermost modules of which nothing comes from the weights, and single parameters beside them."""
        for name, child in module.named_children():
            full = prefix + name
            filled, size = _total(self.filled, full), _total(self.sizes, full)
            if 0 < filled < size:
                yield from self.lacking(child, f"{full}.")
            elif filled < size:
                yield full
        own = [prefix + name for name, _ in module.named_parameters(recurse=False)]
        yield from (name for name in own if name in self.sizes and name not in self.filled)

    def outermost(self, name: str) -> str:
        """Return the outermost module that the model lacks of a tensor that it lacks, by their names."""
        words = name.split(".")
        prefixes = [".".join(words[: n + 1]) for n in range(len(words))]
        return next((prefix for prefix in prefixes if not _total(self.sizes, prefix)), name)


def _refuse_another_model(filling: _Filling, checkpointer: SafeCheckpointer, trunk: str, source: str) -> None:
    wrong = checkpointer.misshapen
    theirs = [*filling.filled, *(name for name, *_ in wrong), *checkpointer.unused]
    has_trunk = bool(trunk) and any(_is_in(name, trunk) for name in theirs)
    parts = [trunk] if has_trunk else filling.parts
    if not parts or any(filling.share(part) >= ENOUGH for part in parts):
        return
    best = max(parts, key=filling.share)
    holds, has = dict.fromkeys(name.partition(".")[0] for name in theirs), filling.parts
    reason = f"it fills {filling.share(best):.0%} of the model's {best}, want {ENOUGH:.0%} or more"
    name, their_shape, our_shape = next((item for item in wrong if _is_in(item[0], best)), ("", (), ()))
    reason += f"; its {name} is {their_shape}, the model's {our_shape}" if name else ""
    reason += f"; it holds {', '.join(holds)}, the model has {', '.join(has)}" if set(holds) != set(has) else ""
    raise UserError(f"{source}: of another model: {reason}; name weights of this model, or of its {best}")


def _note(filling: _Filling, unused: Sequence[str]) -> str:
    """Say how much of a model its weights fill, and what is left over on either side."""
    lacking = sorted(filling.lacking(filling.model), key=lambda name: name.count("."))  # the largest ones first
    others = list(dict.fromkeys(filling.outermost(name) for name in unused))
    rest = [f"not {_some(lacking)}" if lacking else "", f"the file also has {_some(others)}" if others else ""]
    if not any(rest):
        return ""
    count = f"{_total(filling.filled):,} of {_total(filling.sizes):,} parameters come from it"
    return "; ".join(filter(None, [count, *rest]))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _total(sizes: dict[str, int], module: str = "") -> int:
    return sum(size for name, size in sizes.items() if not module or _is_in(name, module))


def _is_in(name: str, module: str) -> bool:
    """Return whether a tensor is of a module, or is it, by their names."""
    return name == module or name.startswith(f"{module}.")
