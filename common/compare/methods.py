"""Names of methods, and the keys that train with them."""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise, product
from urllib.parse import quote

from densedist.common.compare.names import BEST, INTER, INTRA, LABELS, NONE, UNLABELED, no_data, no_method
from densedist.common.config.former_keys import current_pairs, current_words
from densedist.common.config.keys import Key
from densedist.common.config.shared_keys import COMMON
from densedist.common.distill.registry import LOSSES, loss_keys
from densedist.common.distill.teacher_files import keys_of_others
from densedist.common.errors import UserError

# Keys of a part that are no config's: the OUTPUT_DIR of a teacher's run; options of densedist label.
TEACHER = "TEACHER"
SCORE_THRESHOLD, IGNORE_THRESHOLD, CHOOSE_THRESHOLDS = "SCORE_THRESHOLD", "IGNORE_THRESHOLD", "CHOOSE_THRESHOLDS"
OF_LABELING = (SCORE_THRESHOLD, IGNORE_THRESHOLD, CHOOSE_THRESHOLDS)
# How it looks at the images that it labels: these groups of its own config.
LOOKS = (f"{TEACHER}.TEST.", f"{TEACHER}.INPUT.")
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})")  # LOW..HIGH, from which densedist tune draws

MARKS, TEACHERS = re.compile("[+;,|]"), re.compile(rf"(?:^|[@;]){TEACHER}=")
LONGEST = 180  # letters of a folder's name


def methods() -> Mapping[str, tuple[str, ...]]:
    """Return, by method, the loss that it switches on and further overrides; losses of IMPORTS are among them."""
    return {
        NONE: ("",),
        **{loss.lower(): (loss,) for loss in LOSSES},
        INTER: ("DIST", "DISTILL.DIST.GAMMA", "0.0"),
        INTRA: ("DIST", "DISTILL.DIST.BETA", "0.0"),
        UNLABELED: ("",),  # with DATASETS.UNLABELED as --unlabeled says
        LABELS: ("",),  # with what the teacher takes for their labels in DATASETS.PSEUDO_LABELED
    }


def expand(words: Sequence[str], best: str = "") -> list[str]:
    """Split words at commas into methods, with one value for each key.

    A part of a method may have keys, with one or more values each: "dist@TAU=1,2;WEIGHT=0.1,1+unlabeled" stands for
    four methods, the first of which is "dist@TAU=1;WEIGHT=0.1+unlabeled".

    Args:
        best: see joined.

    Raises:
        UserError: a key without a value, or with a range.
    """
    found = ["+".join(chosen) for method in joined(words, best) for chosen in product(*map(_settled, parts(method)))]
    return list(dict.fromkeys(found))


def as_given(words: Sequence[str], best: str) -> dict[str, str]:
    """Return by method that expand() returns its name as it was given, where BEST is not replaced.

    Args:
        best: see joined.
    """
    names: dict[str, str] = {}
    for given in expand(words):
        for method in expand([given], best):
            names.setdefault(method, given)
    return names


def joined(words: Sequence[str], best: str = "") -> list[str]:
    """Put together the methods that were split at commas: a word that is no method is one more value of the last.

    So does the path of one more TEACHER, which may begin as a method does, and so do the items of a list in brackets.

    Args:
        best: the method that the part BEST stands for; its first part takes the keys behind BEST, too, which hold
            against its own. Empty = BEST stays.
    """
    known = {*methods(), BEST}
    found: list[str] = []
    for word in words:
        if found and _closed(found[-1])[1]:
            found[-1] += f",{word}"
            continue
        begins = word.partition("+")[0].partition("@")[0] in known
        if begins and found and TEACHERS.search(found[-1]):
            begins = "/" not in (path := _path(word, 0)) or not os.path.exists(path)
        if begins or not (found and "@" in found[-1]):
            found.append(word)
        else:
            found[-1] += f",{word}"
    return ["+".join(_known(part, best) for part in parts(method)) for method in found] if best else found


def _known(part: str, best: str) -> str:
    """Return a part of a method, or what BEST stands for."""
    if part.partition("@")[0] != BEST:
        return part
    first, *others = parts(best)
    return "+".join([_part(first.partition("@")[0], dict(pairs(first)) | dict(pairs(part))), *others])


def has_best(words: Sequence[str]) -> bool:
    """Return whether BEST is among methods that were split at commas."""
    return any(part.partition("@")[0] == BEST for method in joined(words) for part in parts(method))


def parts(method: str) -> list[str]:
    """Split a method at "+"."""
    return _split(method, "+")


def folder_name(text: str) -> str:
    """Return a folder's name for a method or teacher that no other one has."""
    name = quote(text, safe="@+=;,:()[] ")
    # An exclamation mark is always quoted.
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}!{sha256(text.encode()).hexdigest()[:16]}"


def _split(text: str, mark: str) -> list[str]:
    """Split text at a mark, but not in brackets, nor inside the path of a TEACHER that exists: folders of methods have
    such marks."""
    inside, _ = _closed(text)
    cuts = [place for place, character in enumerate(text) if character == mark and place not in inside]
    return [text[start + 1 : stop] for start, stop in pairwise([-1, *cuts, len(text)])]


def _closed(text: str) -> tuple[set[int], int]:
    """Return the indices of characters in brackets or in paths behind TEACHER=, and how many brackets stay open."""
    paths, inside, depth = _paths(text), set(), 0
    for place, character in enumerate(text):
        if place in paths:
            continue
        depth = max(depth + (character in "[{(") - (character in "]})"), 0)
        if depth:
            inside.add(place)
    return paths | inside, depth


def _paths(text: str) -> set[int]:
    """Return the indices of characters in paths behind TEACHER=, each the longest that exists."""
    inside: set[int] = set()
    for key in TEACHERS.finditer(text):
        start = key.end()
        while start not in inside:
            end = start + len(_path(text, start))
            inside.update(range(start, end))
            if text[end : end + 1] not in (",", "|"):
                break
            start = end + 1
    return inside


def _path(text: str, start: int) -> str:
    """Return the longest path from an index on that exists; else the text up to the next mark."""
    ends = [mark.start() for mark in MARKS.finditer(text, start)] + [len(text)]
    return text[start : next((end for end in reversed(ends) if os.path.exists(text[start:end])), ends[0])]


def has_labels(method: str) -> bool:
    """Return whether a method trains on labels of its teacher."""
    return any(part.partition("@")[0] == LABELS for part in parts(method))


def setting(method: str, key: str) -> str:
    """Return a method's TEACHER, or one of OF_LABELING, in whichever part; "" if it has none.

    Raises:
        UserError: two parts disagree.
    """
    found = {v for part in parts(method) for k, values in pairs(part) if k == key for v in values}
    if len(found) > 1:
        raise UserError(f"--methods: {method} has {key} {' and '.join(sorted(found))}: want one")
    return next(iter(found), "")


def of_teacher(method: str) -> dict[str, str]:
    """Return the keys of its own config, TEACHER. before each, by which a method's teacher looks at what it labels."""
    labels = [part for part in parts(method) if part.partition("@")[0] == LABELS]
    return {key: ",".join(values) for part in labels for key, values in pairs(part) if key.startswith(LOOKS)}


def together(given: str) -> list[str]:
    """Split a TEACHER at "|" into the folders of several teachers that teach, or write labels, together."""
    first, *more = _split(f"{TEACHER}={given}", "|")
    return [first.removeprefix(f"{TEACHER}="), *more]


def without(method: str, key: str) -> str:
    """Return the method without a key in any part."""
    left = []
    for part in parts(method):
        left.append(_part(part.partition("@")[0], {k: values for k, values in pairs(part) if k != key}))
    return "+".join(left)


def _part(name: str, keys: Mapping[str, Sequence[str]]) -> str:
    """Return a part of a method as it is written: the opposite of pairs."""
    settings = ";".join(f"{key}={','.join(values)}" for key, values in keys.items())
    return f"{name}@{settings}" if settings else name


def _settled(part: str) -> list[str]:
    """Return a part of a method once for each combination of its keys' values."""
    name, _, settings = part.partition("@")
    if not settings:
        return [part]
    if any(RANGE.fullmatch(value) for _, values in pairs(part) for value in values):
        raise UserError(f"--methods: {part}: ranges are for densedist tune; name values, as in TAU=1,2,4")
    values = [[f"{key}={value}" for value in values] for key, values in pairs(part)]
    return [f"{name}@{';'.join(chosen)}" for chosen in product(*values)]


def pairs(part: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the keys of a part with their values.

    Raises:
        UserError: a key without a value, or a list without its end.
    """
    _, _, settings = part.partition("@")
    if _closed(settings)[1]:
        raise UserError(f"--methods: {part}: want a list as [1,2], with a bracket at its end")
    for setting in filter(None, _split(settings, ";")):
        first, *more = _split(setting, ",")
        key, _, value = first.partition("=")
        if not (key and value and all(more)):
            raise UserError(f"--methods: {part}: want KEY=VALUE after @, e.g. dist@TAU=1,2,4;WEIGHT=0.3,1")
        yield key, [value, *more]


def switches(
    method: str, unlabeled: Sequence[str], overrides: Sequence[str] = (), task_keys: Mapping[str, Key] | None = None
) -> list[str]:
    """Return the overrides that train with a method, as "dist@TAU=4+mimic", and switch all other losses off.

    What the overrides say of a loss holds where a method has that loss; a key after @ has the last word.

    A key after @ is one of the loss (TAU), of DISTILL (DECAY, TEACHER.CACHE), TRUE_LABELS_LAST, or a whole one
    (SOLVER.BASE_LR); or TEACHER: the OUTPUT_DIR of a teacher's run, those of several with "|" between them, or
    "average", the student's own (common/distill/average.py). Of labels also one of PSEUDO_LABELS (SHARE), one of
    OF_LABELING, and keys of the teacher's own config by which it looks at the images, as TEACHER.TEST.FLIP.

    Args:
        method: one that expand() returns.
        unlabeled: DATASETS.UNLABELED of the part "unlabeled"; what "labels" writes labels for.
        overrides: for all methods.
        task_keys: all keys of the task; those of DISTILL.TEACHER about its files are default for another TEACHER.

    Raises:
        UserError: an unknown part, "unlabeled" or "labels" without data, a TEACHER that is not there.
    """
    known = methods()
    on: list[str] = []
    words: list[str] = []
    for part in parts(method):
        name = part.partition("@")[0]
        if name not in known:
            raise no_method(name, [*known, BEST])
        loss, *half = known[name]
        on.append(loss)
        words += half
        if name in (UNLABELED, LABELS):
            if not unlabeled:
                raise no_data(name)
            words += ["DATASETS.UNLABELED", str(list(unlabeled))] if name == UNLABELED else []
        given = [(key, values) for key, values in pairs(part) if not is_of_teacher(name, key)]
        keys = [(full_key(name, key, task_keys or ()), ",".join(values)) for key, values in given]
        words += [word for pair in current_pairs(keys, f"--methods: {part}") for word in pair]
    if named := setting(method, TEACHER):
        found = keys_of_others(task_keys or {}, together(named), f"--methods: {TEACHER}")
        words += [word for key, value in found.items() for word in (f"DISTILL.TEACHER.{key}", str(value))]
    ones = [word for loss in LOSSES if loss in on for word in (f"DISTILL.{loss}.WEIGHT", "1.0")]
    zeros = [word for loss in LOSSES if loss not in on for word in (f"DISTILL.{loss}.WEIGHT", "0.0")]
    return [*ones, *current_words(overrides, "the command line"), *zeros, *words]


def is_of_teacher(name: str, key: str) -> bool:
    """Return whether a key in a part of a method says who its teachers are or how they label, and is none of the
    student's config."""
    return key == TEACHER or (name == LABELS and (key in OF_LABELING or key.startswith(LOOKS)))


def full_key(name: str, key: str, of_task: Collection[str] = ()) -> str:
    """Return the whole name of a key in a part of a method.

    Args:
        of_task: whole names of keys that not both tasks have.
    """
    if key == "TRUE_LABELS_LAST":
        return f"SOLVER.{key}"
    if name == LABELS and (of_labels := f"PSEUDO_LABELS.{key}") in {*COMMON, *of_task}:
        return of_labels
    loss = "DIST" if name in (INTER, INTRA) else name.upper()
    of_loss, shared = f"DISTILL.{loss}.{key}", f"DISTILL.{key}"
    if of_loss in loss_keys():
        return of_loss
    if shared in {*COMMON, *loss_keys(), *of_task} or key.startswith("TEACHER."):
        return shared
    return key if "." in key else of_loss if loss in LOSSES else shared
