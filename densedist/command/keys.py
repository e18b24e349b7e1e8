"""The command about the keys of a config: keys. It reads reference.json, made from the tables of keys, and is quick."""

import argparse
from itertools import groupby
from textwrap import wrap
from typing import TYPE_CHECKING

from densedist.command.arguments import Parser

if TYPE_CHECKING:
    from densedist.common.config.reference import Row

WIDTH = 100


def add_keys(parser: Parser) -> None:
    """List the keys of a config: type, default, allowed values, meaning."""
    parser.epilog = "A full name explains one key, like `densedist --explain KEY`. Keys of IMPORTS are not listed."
    text = "part of a name, or else of a meaning, in upper or lower case; * matches anything; default: all"
    parser.add_argument("pattern", nargs="?", default="", metavar="PATTERN", help=text)


def keys(args: argparse.Namespace) -> None:
    from densedist.common.config.reference import group, matching
    from densedist.common.errors import UserError
    from densedist.common.nearest import did_you_mean
    from densedist.known_keys import reference

    rows = reference()
    if exact := [row for row in rows if row.name == args.pattern.upper()]:
        print("\n\n".join(_explained(row) for row in exact))
        return
    found = matching(rows, args.pattern)
    if not found:
        raise UserError(f"no key matches {args.pattern}{did_you_mean(args.pattern, [row.name for row in rows])}")
    for name, members in groupby(found, key=lambda row: group(row.name)):
        print(f"\n{name or 'Without a group'}")
        for row in members:
            print(f"  {row.name} = {row.default or '(empty)'}" + _only(row))
            print("\n".join(wrap(row.meaning, WIDTH, initial_indent="      ", subsequent_indent="      ")))


def _explained(row: "Row") -> str:
    lines = {
        "type": row.type,
        "default": row.default or "(empty)",
        "values": row.values or f"any {row.type}",
        "task": " and ".join(row.tasks),
    }
    told = "\n".join(f"  {name:<9}{value}" for name, value in lines.items())
    return "\n".join([row.name, *wrap(row.meaning, WIDTH, initial_indent="  ", subsequent_indent="  "), told])


def _only(row: "Row") -> str:
    """Return which task alone has the key."""
    return f"    ({row.tasks[0]} only)" if len(row.tasks) == 1 else ""
