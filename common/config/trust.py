"""Decide which keys may let a file from elsewhere run code.

Such keys (Key.trust) hold where the user gives them: on the command line, as overrides from Python, or in the file that
is named there. A config that is found on the way gives itself no trust: that of a run's weights, a _BASE_, a teacher's,
that of an entry of MORE, that of a TEACHER that a method names.
"""

import logging
from collections.abc import Mapping
from typing import Any

from fvcore.common.config import CfgNode

from densedist.common.config.keys import value_of
from densedist.common.config.shared_keys import COMMON
from densedist.common.errors import UserError

logger = logging.getLogger(__name__)

KEYS = tuple(name for name, key in COMMON.items() if key.trust)
PICKLE, IMPORTS = "MODEL.TRUST_PICKLE", "TRUST_IMPORTS"
# What a user can do about a file that is not trusted.
REMEDY = f"if you trust its origin, give {PICKLE} True on the command line"


def refuse_in_file(itself: Mapping[str, Any], path: str) -> None:
    """Refuse a config named by the user that turns TRUST_IMPORTS on itself.

    Args:
        itself: what the file says, without its _BASE_.

    Raises:
        UserError: it does; False may be there, as it is the default.
    """
    if itself.get(IMPORTS):
        raise UserError(f"{IMPORTS} is only for the command line: remove it from {path}")


def take_back(cfg: CfgNode, itself: Mapping[str, Any], path: str) -> None:
    """Set the trust that a config gives itself back to its default, in place, with a warning.

    Args:
        cfg: with the file and its _BASE_ chain in it, before the command line's overrides.
        itself: the content of the file that the user named, without its _BASE_; empty where none was named.
        path: the file's, for the warning.
    """
    for name in KEYS:
        if value_of(cfg, name) and _said(itself, name) is not True:
            _set(cfg, name, COMMON[name].default)
            logger.warning(
                f"{name} in {path} is ignored: only the command line, or a config that is named there, may set it"
            )


def forget(cfg: CfgNode) -> None:
    """Take the keys of trust out of a config that is written to a file, in place."""
    for name in KEYS:
        *groups, last = name.split(".")
        del (value_of(cfg, ".".join(groups)) if groups else cfg)[last]


def words(cfg: CfgNode) -> list[str]:
    """Return the overrides that let a teacher's config trust what the user trusts in cfg."""
    return [word for name in KEYS for word in (name, str(value_of(cfg, name)))]


def _said(itself: Mapping[str, Any], name: str) -> Any:
    node: Any = itself
    for part in name.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _set(cfg: CfgNode, name: str, value: Any) -> None:
    *groups, last = name.split(".")
    (value_of(cfg, ".".join(groups)) if groups else cfg)[last] = value
