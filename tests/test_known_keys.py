"""The keys that are known without PyTorch; tests/common/config/test_reference.py compares keys.json with the tables."""

import pytest
from fvcore.common.config import CfgNode

from densedist.common.config.load import read
from densedist.known_keys import defaults, refuse_mistyped
from densedist.tasks import task_named


def groups(cfg, prefix=""):
    """Yield the groups of a config that take any key."""
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from [prefix + name] if value.is_new_allowed() else []
            yield from groups(value, f"{prefix}{name}.")


@pytest.mark.parametrize("task", ["det", "seg"])
def test_the_same_groups_take_any_key(task):
    assert sorted(groups(defaults(task))) == sorted(groups(task_named(task).grammar.config()))


def test_modules_may_add_keys():
    assert refuse_mistyped(read("", ["IMPORTS", "['my_loss.py']", "DISTILL.HUBER.WEIGHT", "1"]), "seg") is None
