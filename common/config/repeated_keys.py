"""YAML in which a mapping has the same key twice: the parser would silently take the last one."""

from collections.abc import Iterator
from functools import lru_cache

import yaml

from densedist.common.errors import UserError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's takes a tenth of the time
MERGE = "tag:yaml.org,2002:merge"  # <<, which may stand for several mappings


@lru_cache(maxsize=64)  # a command reads its config several times
def refuse_repeated_keys(text: str, source: str) -> None:
    """Refuse YAML in which a mapping has the same key twice; nothing in it is built or run.

    Args:
        source: what the text is, for messages.

    Raises:
        UserError: naming the key and the lines of both.
        yaml.YAMLError: it is no YAML.
    """
    for name, first, second in _repeated(yaml.compose(text, LOADER)):
        raise UserError(f"{source} has {name} twice, in lines {first} and {second}: join them, or leave one out")


def _repeated(root: yaml.Node | None) -> Iterator[tuple[str, int, int]]:
    """Yield dotted names of keys, with the lines of the first and the next place."""
    seen: set[int] = set()  # an alias leads to its anchor's node again
    left = [] if root is None else [("", root)]
    while left:
        prefix, node = left.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if not isinstance(node, yaml.MappingNode):
            left += [(f"{prefix}[{number}]", value) for number, value in reversed(list(enumerate(node.value)))]
            continue
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, f"{prefix}.{key.value}".removeprefix(".")
            if (known := (key.tag, str(key.value))) in lines and key.tag != MERGE:
                yield name, lines[known], line
            lines[known] = line
            left.append((name, value))
