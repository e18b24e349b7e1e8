"""The keys of both tasks, known without PyTorch, so that a mistyped one is refused at once.

keys.json, with their defaults, and reference.json, with what docs/keys.md says of them, are made from the tables of
keys (docs/keys_page.py), which import losses, readers and models.
"""

import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from densedist.common.config.keys import Key, not_allowed, value_of
from densedist.common.config.load import Given, Grammar, merge_file, merge_pairs
from densedist.common.config.reference import Row, from_json

FILE = Path(__file__).with_name("keys.json")
CHOICES = "choices"
REFERENCE = Path(__file__).with_name("reference.json")


def defaults(task: str) -> CfgNode:
    """Return a config of a task, "det" or "seg", with every key and its default; an empty group takes any key."""
    cfg = CfgNode(_content()[task])
    _let_empty_groups_grow(cfg)
    return cfg


def reference() -> list[Row]:
    """Return the reference of keys: name, type, default, values and meaning."""
    return from_json(REFERENCE.read_text(encoding="utf-8"))


def refuse_mistyped(given: Given, task: str) -> CfgNode | None:
    """Refuse an unknown key, a value of a wrong type, or a text that is none of the few that a key allows.

    Returns:
        the config, whose other values may still be refused by their keys; None where modules are imported that may add
        keys.

    Raises:
        UserError: naming the key, and those of a like name.
    """
    if given.may_add_keys:
        return None
    tables = sys.modules.get(f"densedist.{task}.config")  # once they are imported, they have what a program added
    cfg = tables.GRAMMAR.config() if tables else defaults(task)
    merge_file(cfg, given)
    merge_pairs(cfg, given)
    known = _choices(tables.GRAMMAR.keys()) if tables else _content()[CHOICES][task]
    for name, (words, choices) in known.items():
        if (value := value_of(cfg, name)) not in choices:
            raise not_allowed(name, value, words)
    return cfg


def text(grammars: Mapping[str, Grammar]) -> str:
    """Return the text of keys.json: of each task all defaults, and by CHOICES the keys that allow a few texts."""
    content = {task: _plain(grammar.config()) for task, grammar in grammars.items()}
    content[CHOICES] = {task: _choices(grammar.keys()) for task, grammar in grammars.items()}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _choices(keys: Mapping[str, Key]) -> dict[str, tuple[str, list[str]]]:
    """Return of each key that allows a few texts these in words, and as they are."""
    return {name: (key.words, list(key.choices)) for name, key in keys.items() if key.choices}


@cache
def _content() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _let_empty_groups_grow(node: CfgNode) -> None:
    groups = [value for value in node.values() if isinstance(value, CfgNode)]
    node.__dict__[CfgNode.NEW_ALLOWED] = not node
    for group in groups:
        _let_empty_groups_grow(group)
