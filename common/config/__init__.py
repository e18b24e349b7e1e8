"""Configs are data: every key has a default and a check, and what is wrong is refused in one line when it is read."""

from densedist.common.config.files import CONFIGS, MODEL_ZOO, find_config, read_file
from densedist.common.config.keys import Key, above, add_keys, at_least, check_values, every, one_of
from densedist.common.config.load import Grammar, load, saved
from densedist.common.config.shared_keys import COMMON

__all__ = [
    "COMMON",
    "CONFIGS",
    "MODEL_ZOO",
    "Grammar",
    "Key",
    "above",
    "add_keys",
    "at_least",
    "check_values",
    "every",
    "find_config",
    "load",
    "one_of",
    "read_file",
    "saved",
]
