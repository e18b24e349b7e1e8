"""Names of methods, and the keys that train with them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from densedist.common.config.keys import COMMON
from densedist.common.distill.registry import LOSSES, loss_keys
from densedist.common.errors import UserError

NONE, UNLABELED, LABELS = "none", "unlabeled", "labels"
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})")  # LOW..HIGH, from which densedist tune draws


def methods() -> Mapping[str, tuple[str, ...]]:
    """What switches each method on; "+" joins them. Losses of one's own are among them (see IMPORTS)."""
    return {
        NONE: (),
        **{loss.lower(): (f"DISTILL.{loss}.WEIGHT", "1.0") for loss in LOSSES},
        "inter": ("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.GAMMA", "0.0"),
        "intra": ("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.BETA", "0.0"),
        UNLABELED: (),  # with DATASETS.UNLABELED as --unlabeled says
        LABELS: (),  # with what the teacher takes for their labels in DATASETS.TRAIN, too
    }


def expand(words: Sequence[str]) -> list[str]:
    """The methods of a list that was joined by commas, each with one value for each of its keys.

    A part of a method may have keys, with one or more values each: "dist@TAU=1,2;WEIGHT=0.1,1+unlabeled" stands for
    four methods, the first of which is "dist@TAU=1;WEIGHT=0.1+unlabeled".

    Raises:
        UserError: a key without a value, or with a range.
    """
    found = ["+".join(parts) for method in joined(words) for parts in product(*map(_settled, method.split("+")))]
    return list(dict.fromkeys(found))


def joined(words: Sequence[str]) -> list[str]:
    """The methods of a list that was joined by commas: a word that is no method goes on with the values before it."""
    known = methods()
    found: list[str] = []
    for word in words:
        begins = word.partition("+")[0].partition("@")[0] in known
        if begins or not (found and "@" in found[-1]):
            found.append(word)
        else:
            found[-1] += f",{word}"
    return found


def has_labels(method: str) -> bool:
    """Whether a method trains on labels of its teacher."""
    return any(part.partition("@")[0] == LABELS for part in method.split("+"))


def _settled(part: str) -> list[str]:
    """A part of a method with each combination of the values of its keys."""
    name, _, settings = part.partition("@")
    if not settings:
        return [part]
    if any(RANGE.fullmatch(value) for _, values in pairs(part) for value in values):
        raise UserError(f"--methods: {part}: ranges are for densedist tune; name values, as in TAU=1,2,4")
    values = [[f"{key}={value}" for value in values] for key, values in pairs(part)]
    return [f"{name}@{';'.join(chosen)}" for chosen in product(*values)]


def pairs(part: str) -> Iterator[tuple[str, list[str]]]:
    """The keys of a part, and the values of each.

    Raises:
        UserError: a key without a value.
    """
    _, _, settings = part.partition("@")
    for setting in filter(None, settings.split(";")):
        key, _, values = setting.partition("=")
        if not key or not all(values.split(",")):
            raise UserError(f"--methods: {part}: want KEY=VALUE after @, e.g. dist@TAU=1,2,4;WEIGHT=0.3,1")
        yield key, values.split(",")


def switches(method: str, unlabeled: Sequence[str]) -> list[str]:
    """The overrides that train with a method, e.g. "dist@TAU=4+mimic", and switch all other losses off.

    A key after @ is one of the loss (TAU), of DISTILL (DECAY, TEACHER.CACHE), or a whole one (SOLVER.BASE_LR).

    Args:
        method: of expand().
        unlabeled: DATASETS.UNLABELED of the part "unlabeled"; what "labels" writes labels for.

    Raises:
        UserError: an unknown part, or "unlabeled" or "labels" without data.
    """
    known = methods()
    words = [word for loss in LOSSES for word in (f"DISTILL.{loss}.WEIGHT", "0.0")]
    for part in method.split("+"):
        name = part.partition("@")[0]
        if name not in known:
            raise UserError(f"--methods: there is no {name}; want {', '.join(known)}, joined by + if need be")
        words += known[name]
        if name in (UNLABELED, LABELS):
            if not unlabeled:
                raise UserError(f"--methods: {name} needs --unlabeled with the names of the data")
            words += ["DATASETS.UNLABELED", str(list(unlabeled))] if name == UNLABELED else []
        words += [word for key, values in pairs(part) for word in (full_key(name, key), ",".join(values))]
    return words


def full_key(name: str, key: str) -> str:
    """The whole name of a key that a part of a method has."""
    loss = "DIST" if name in ("inter", "intra") else name.upper()
    of_loss, shared = f"DISTILL.{loss}.{key}", f"DISTILL.{key}"
    if of_loss in loss_keys():
        return of_loss
    if shared in {**COMMON, **loss_keys()} or key.startswith("TEACHER."):
        return shared
    return key if "." in key else of_loss if loss in LOSSES else shared
