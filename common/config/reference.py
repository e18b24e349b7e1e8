"""The reference of keys: rows made from the tables of keys, so that what is documented is what is checked."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any

from fvcore.common.config import CfgNode

from densedist.common.config.keys import Key, value_of
from densedist.common.config.load import Grammar

TYPES = {bool: "True/False", type(None): "number"}  # others by their own name


@dataclass(frozen=True)
class Row:
    """A key as docs/keys.md shows it.

    Args:
        name: dotted, as "SOLVER.MAX_ITER".
        tasks: the tasks that have it with these values.
        type: as "int".
        default: as YAML.
        values: the values that it may have; empty = any of the type.
        meaning: one line.
    """

    name: str
    tasks: tuple[str, ...]
    type: str
    default: str
    values: str
    meaning: str


def rows(grammars: Mapping[str, Grammar]) -> list[Row]:
    """Return the keys of all tasks by group and name; a key that is the same in several tasks is one row.

    Args:
        grammars: by task, as {"det": …, "seg": …}.
    """
    found: dict[Row, tuple[str, ...]] = {}
    for task, grammar in grammars.items():
        cfg = grammar.config()
        for name, key in grammar.keys().items():
            row = _row(name, key, value_of(cfg, name))
            found[row] = (*found.get(row, ()), task)
    both = [replace(row, tasks=tasks) for row, tasks in found.items()]
    return sorted(both, key=lambda row: (group(row.name), row.name, row.tasks))


def group(name: str) -> str:
    """Return the group of a key under which the page shows it, as "DISTILL.TEACHER"; "" for a key without one."""
    first, _, rest = name.partition(".")
    inner = rest.partition(".")[0] if "." in rest and first == "DISTILL" else ""
    return f"{first}.{inner}".rstrip(".") if rest else ""


def matching(found: Sequence[Row], pattern: str) -> list[Row]:
    """Return the rows whose name has a pattern in it, in any case, or else whose meaning has; * stands for anything."""
    wanted = f"*{pattern.upper()}*"
    named = [row for row in found if fnmatchcase(row.name.upper(), wanted)]
    return named or [row for row in found if fnmatchcase(row.meaning.upper(), wanted)]


def as_json(found: Sequence[Row]) -> str:
    """Return rows as a JSON text, a row a line; from_json reads it."""
    return "[\n" + ",\n".join(json.dumps(asdict(row), ensure_ascii=False) for row in found) + "\n]\n"


def from_json(text: str) -> list[Row]:
    """Return the rows of a text of as_json."""
    return [Row(**entry | {"tasks": tuple(entry["tasks"])}) for entry in json.loads(text)]


def _row(name: str, key: Key, default: Any) -> Row:
    if isinstance(default, CfgNode):
        kind, shown = "group", "{}"
    elif isinstance(default, tuple):
        kind, shown = "list", str(list(default))
    else:
        kind, shown = TYPES.get(type(default), type(default).__name__), str(default)
    return Row(name, (), kind, shown, "" if isinstance(default, bool) else key.words, key.meaning)


def markdown(found: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the page's tables, a heading and a table for each group."""
    for name, members in groupby(found, key=lambda row: group(row.name)):
        yield f"\n## {name or 'Without a group'}\n"
        yield "| key | task | type | default | values | meaning |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for row in members:
            default = f"`{row.default}`" if row.default else "empty"
            cells = [f"`{row.name}`", ", ".join(row.tasks), row.type, default, row.values, row.meaning]
            yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
