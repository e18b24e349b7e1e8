"""Load a checked config from a file and KEY VALUE overrides; yacs' errors become one line."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from densedist.common.config import trust
from densedist.common.config.files import absolute, find_config, read_alone, read_file
from densedist.common.config.former_keys import current_pairs
from densedist.common.config.imports import import_all
from densedist.common.config.keys import Key, add_keys, check_values, value_of
from densedist.common.errors import UserError
from densedist.common.nearest import did_you_mean

# What yacs says of a value of the wrong type: the class of each value, then the values.
MISMATCH = re.compile(
    r"Type mismatch \(<class '(?:.*\.)?(\w+)'> vs\. <class .*'>\) with values \(.* vs\. (.*)\) for .*: (.*)"
)
KINDS = {
    "CfgNode": "a group of keys",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "list": "a list, as ['one', 'two']",
    "tuple": "a list, as ['one', 'two']",
}


@dataclass(frozen=True)
class Grammar:
    """The keys of a task.

    Args:
        base: a config with the keys that are Detectron2's.
        keys: all that are added or checked; called after IMPORTS, which may add some.
    """

    base: Callable[[], CfgNode]
    keys: Callable[[], Mapping[str, Key]]

    def config(self) -> CfgNode:
        """Return a config with every key and its default."""
        cfg = self.base()
        add_keys(cfg, self.keys())
        return cfg


def load(
    grammar: Grammar, config_file: str, overrides: Sequence[str] = (), key: str = "--config-file", trusted: bool = True
) -> CfgNode:
    """Load a config file and KEY VALUE overrides, and check keys and values.

    A device "cuda" becomes "cpu" where there is no GPU.

    Args:
        config_file: see find_config; empty = the defaults.
        key: what names the file, for messages.
        trusted: True for a file that the user names, whose IMPORTS and keys of trust then hold; False for one that
            was found, as with weights or for a teacher. A _BASE_ is never trusted (common/config/trust.py).

    Raises:
        UserError: a missing or unreadable file, an unknown key, a wrong type, a value out of range, a key without
            a value, a module that cannot be imported.
    """
    given = read(config_file, overrides, key)
    if trusted:
        trust.refuse_in_file(given.itself, given.path)
    from_itself = "IMPORTS" in given.itself or "IMPORTS" not in given.content
    source = given.path if from_itself else f"a _BASE_ of {given.path}"
    _import(given.content, source, dict(given.pairs), trusted and from_itself)
    cfg = grammar.config()
    merge_file(cfg, given)
    if given.path:
        trust.take_back(cfg, given.itself if trusted else {}, given.path)
    merge_pairs(cfg, given)
    cfg.IMPORTS = absolute(list(cfg.IMPORTS), Path.cwd())
    if cfg.MODEL.DEVICE == "cuda":
        import torch  # here, so that configs are read without it

        cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    check_values(cfg, grammar.keys())
    return cfg


@dataclass(frozen=True)
class Given:
    """What a user gives, read and not yet checked.

    Args:
        path: of the config file; "" = none.
        content: of the file and its _BASE_ chain.
        itself: of the file alone.
        pairs: KEY VALUE of the command line.
    """

    path: str
    content: Mapping[str, Any]
    itself: Mapping[str, Any]
    pairs: Sequence[tuple[str, str]]

    @property
    def may_add_keys(self) -> bool:
        """Return whether modules are imported that may add keys."""
        return bool(self.content.get("IMPORTS")) or any(name == "IMPORTS" for name, _ in self.pairs)


def read(config_file: str, overrides: Sequence[str] = (), key: str = "--config-file") -> Given:
    """Read a config file and KEY VALUE overrides. Takes what load takes.

    Raises:
        UserError: a missing or unreadable file, or a key without a value.
    """
    if len(overrides) % 2:
        raise UserError(f"overrides are KEY VALUE pairs, but {overrides[-1]} has no value")
    pairs = current_pairs(list(zip(overrides[::2], overrides[1::2], strict=True)), "the command line")
    path = find_config(config_file, key) if config_file else ""
    return Given(path, read_file(path), read_alone(path), pairs) if path else Given("", {}, {}, pairs)


def merge_file(cfg: CfgNode, given: Given) -> None:
    """Put the content of a file into a config, in place.

    Raises:
        UserError: an unknown key, a wrong type, or the keys of an old version of Detectron2.
    """
    if given.path:
        content = {"VERSION": cfg.VERSION, **given.content}
        if content["VERSION"] != cfg.VERSION:
            raise UserError(f"{given.path}: VERSION {content['VERSION']} is too old: want {cfg.VERSION}")
        merge(cfg, content, given.path)


def merge_pairs(cfg: CfgNode, given: Given) -> None:
    """Put the pairs of the command line into a config, in place.

    Raises:
        UserError: an unknown key, or a wrong type.
    """
    for name, value in given.pairs:
        with _refusing_in_one_line(cfg, "the command line"):
            _allow_new(cfg, name)
            is_float = isinstance(value_of(cfg, name), float) and value.lstrip("+-").isdigit()
            cfg.merge_from_list([name, float(value) if is_float else value])


def merge(cfg: CfgNode, given: Mapping[str, Any], source: str) -> None:
    """Put plain data into a config, in place.

    Args:
        source: where they come from, for messages.

    Raises:
        UserError: an unknown key, or a wrong type.
    """
    with _refusing_in_one_line(cfg, source):
        node = CfgNode(dict(given))
        _ints_to_floats(node, cfg)
        cfg.merge_from_other_cfg(node)


def saved(cfg: CfgNode) -> str:
    """Return the text of a run's config.yaml: all keys but those of trust."""
    cfg = cfg.clone()
    cfg.defrost()
    trust.forget(cfg)
    return cfg.dump()


def _import(loaded: Mapping[str, Any], source: str, overrides: Mapping[str, str], trusted: bool) -> None:
    """Import what the command line names, else what the file does.

    Args:
        source: the file that has the IMPORTS, for messages.
        trusted: the user named that file, not one that has it as its _BASE_.
    """
    trusted, names = trusted or overrides.get(trust.IMPORTS) == "True", loaded.get("IMPORTS", [])
    if "IMPORTS" in overrides:
        trusted, source = True, "the command line"
        try:
            names = yaml.safe_load(overrides["IMPORTS"])
        except yaml.YAMLError:
            names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        shown = overrides.get("IMPORTS", names)
        raise UserError(f"IMPORTS is {shown} in {source}: want names of modules or .py files, as ['my_loss.py']")
    import_all(absolute(names, Path.cwd()), source, trusted)


@contextmanager
def _refusing_in_one_line(cfg: CfgNode, source: str) -> Iterator[None]:
    """Turn what yacs raises into a UserError that names the key and where it comes from."""
    try:
        yield
    except (KeyError, ValueError, AssertionError) as error:
        reason = " ".join(str(error.args[0] if error.args else error).split())
        head, _, key = reason.partition(": ")
        if head in ("Non-existent config key", "Non-existent key"):
            raise UserError(f"unknown config key {key} in {source}{did_you_mean(key, _keys(cfg))}") from error
        if mismatch := MISMATCH.fullmatch(reason):
            kind, value, key = mismatch.groups()
            raise UserError(f"{key} is {value} in {source}: want {_wanted(kind, value)}") from error
        raise UserError(f"{source}: {reason}") from error


def _wanted(kind: str, value: str) -> str:
    """Return what a key wants in words; a list in YAML's syntax is shown in the command line's."""
    if kind in ("list", "tuple"):
        with suppress(yaml.YAMLError):
            if isinstance(meant := yaml.safe_load(value), list):
                return f"a list, as {meant}"
    return KINDS.get(kind, kind)


def _ints_to_floats(loaded: CfgNode, cfg: CfgNode) -> None:
    """Let 1 stand for 1.0, which yacs refuses."""
    for key, value in loaded.items():
        current = cfg.get(key)
        if isinstance(value, CfgNode) and isinstance(current, CfgNode):
            _ints_to_floats(value, current)
        elif type(value) is int and isinstance(current, float):
            loaded[key] = float(value)


def _allow_new(cfg: CfgNode, key: str) -> None:
    """Make room for a key of a node that takes any, which yacs does for files only."""
    parent, _, name = key.rpartition(".")
    node = value_of(cfg, parent)
    if isinstance(node, CfgNode) and node.is_new_allowed():
        node.setdefault(name, None)


def _keys(cfg: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in cfg.items():
        yield prefix + key
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{key}.")
