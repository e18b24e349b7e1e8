"""Keys of earlier versions: a renamed key is read under its present name, a removed one is ignored; a log line says so.

Configs, the config.yaml of old runs and words of the command line may have them. A renamed key stays in its group.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import yaml

from densedist.common.config.repeated_keys import LOADER
from densedist.common.errors import UserError

logger = logging.getLogger(__name__)
IN_MORE = "DISTILL.TEACHER.MORE"  # a list of groups with the keys of DISTILL.TEACHER


@dataclass(frozen=True)
class Former:
    """What became of a key.

    Args:
        now: its present name; empty = it was removed.
        convert: from the text of its value to that of the present key's.
        instead: what does the work of a removed key.
    """

    now: str = ""
    convert: Callable[[str], str] = lambda value: value
    instead: str = ""


def _is_above_zero(value: str) -> str:
    try:
        return str(float(value) > 0)
    except ValueError:
        return value  # the check of the present key refuses it


FORMER: Mapping[str, Former] = {
    "MODEL.FORM": Former("MODEL.KIND"),
    "DISTILL.TEACHER.FORM": Former("DISTILL.TEACHER.KIND"),
    "DISTILL.TEACHER.CACHE_MAPS_GB": Former("DISTILL.TEACHER.CACHE_MAPS", _is_above_zero),
    "TEST.SAVE_OVERLAYS": Former(instead="densedist predict draws predictions over images"),
}
LASTS = tuple(name.rpartition(".")[2] for name in FORMER)


def current_pairs(pairs: Sequence[tuple[str, str]], source: str) -> list[tuple[str, str]]:
    """Return pairs of key and value with present names; removed keys are left out.

    Args:
        source: what has the pairs, for messages.

    Raises:
        UserError: a key is given by its former and its present name, with different values.
    """
    result: list[tuple[str, str]] = []
    for name, value in pairs:
        if (former := FORMER.get(name)) is None:
            result.append((name, current_text(value, source, name) if name == IN_MORE else value))
            continue
        _log(name, former, source)
        if former.now:
            given = former.convert(value)
            for other, theirs in pairs:
                if other == former.now and theirs != given:
                    raise _both(source, name, value, former.now, theirs)
            result.append((former.now, given))
    return result


def current_words(words: Sequence[str], source: str) -> list[str]:
    """Return KEY VALUE words with present names, see current_pairs."""
    pairs = list(zip(words[::2], words[1::2], strict=True))
    return [word for pair in current_pairs(pairs, source) for word in pair]


def current_text(text: str, source: str, group: str = "") -> str:
    """Return YAML with present names of keys; text without a former key comes back as it is.

    Args:
        source: what the text is, for messages.
        group: dotted name of the key whose value the text is; empty for a whole config.

    Raises:
        UserError: a key is given by its former and its present name, with different values.
    """
    if not any(last in text for last in LASTS):
        return text
    try:
        root = yaml.compose(text, LOADER)
    except yaml.YAMLError:
        return text  # whoever reads it refuses it
    if root is None or not sum([_rename(mapping, name, source) for name, mapping in _mappings(root, group)]):
        return text
    return yaml.serialize(root, width=float("inf"), allow_unicode=True)


def current_parts(parts: Mapping[str, object]) -> dict[str, object]:
    """Return named parts of a fingerprint (common/fingerprint.py) with present names; removed keys are left out."""
    result = {}
    for name, value in parts.items():
        if (former := FORMER.get(name)) is None:
            result[name] = value
        elif former.now:
            result[former.now] = former.convert(str(value))
    return result


def _mappings(root: yaml.Node, group: str) -> Iterator[tuple[str, yaml.MappingNode]]:
    """Yield each mapping with its dotted name."""
    seen: set[int] = set()  # an alias leads to its anchor's node again
    left = [(group, root)]
    while left:
        name, node = left.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            left += [(f"{name}.{key.value}".removeprefix("."), value) for key, value in node.value]
            yield name, node
        else:
            left += [(name.removesuffix(".MORE") if name == IN_MORE else name, item) for item in node.value]


def _rename(mapping: yaml.MappingNode, group: str, source: str) -> bool:
    """Give the former keys of a mapping their present names, in place; return whether there were any."""
    kept, changed = [], False
    given = {f"{group}.{key.value}": value for key, value in mapping.value}
    for key, value in mapping.value:
        name = f"{group}.{key.value}"
        if (former := FORMER.get(name)) is None:
            kept.append((key, value))
            continue
        changed = True
        _log(name, former, source)
        if former.now:
            if isinstance(value, yaml.ScalarNode) and (text := former.convert(value.value)) != value.value:
                value = yaml.ScalarNode("tag:yaml.org,2002:bool", text)
            if (other := given.get(former.now)) is None:
                key.value = former.now.rpartition(".")[2]
                kept.append((key, value))
            elif other.value != value.value:
                raise _both(source, name, given[name].value, former.now, other.value)
    mapping.value = kept
    return changed


def _both(source: str, name: str, value: str, now: str, other: str) -> UserError:
    return UserError(f"{source} has {name} {value}, which is called {now} now, and {now} {other}: keep {now} alone")


def _log(name: str, former: Former, source: str) -> None:
    became = f"is called {former.now} now" if former.now else f"does nothing any more: {former.instead}"
    _say_once(f"{source}: {name} {became}")


@cache
def _say_once(line: str) -> None:
    logger.warning(line)
