"""The reference of keys: it has all keys, each with a meaning, and docs/keys.md is what the tables give."""

import runpy
from pathlib import Path

import pytest

from densedist import known_keys
from densedist.common.config.keys import Key, at_least, value_of
from densedist.common.config.load import Grammar
from densedist.common.config.reference import group, markdown, rows
from densedist.common.distill.registry import LOSSES
from densedist.det.config import GRAMMAR as DET
from densedist.seg.config import GRAMMAR as SEG
from helpers.processes import call

ROOT = Path(__file__).parents[3]
GRAMMARS = {"det": DET, "seg": SEG}


def print_all():
    made = runpy.run_path(str(ROOT / "docs/keys_page.py"))
    print(made["page"](), made["known"](), made["reference"](), end="")


def test_the_page_and_the_known_keys_are_what_the_tables_give():
    """In a process of its own: other tests register losses."""
    done = call(print_all)
    assert done.code == 0, done.err
    wanted = (ROOT / "docs/keys.md").read_text() + " " + known_keys.FILE.read_text()
    wanted += " " + known_keys.REFERENCE.read_text()
    assert done.out == wanted, "write them anew: uv run python docs/keys_page.py"


@pytest.mark.parametrize("task", GRAMMARS)
def test_every_key_has_a_meaning_in_one_line(task):
    built_in = {name for name in LOSSES if LOSSES[name].make.__module__.startswith("densedist.")}
    for name, key in GRAMMARS[task].keys().items():
        loss = name.split(".")[1] if name.startswith("DISTILL.") else ""
        if loss not in LOSSES or loss in built_in:
            assert key.meaning.endswith("."), name
            assert "\n" not in key.meaning, name


@pytest.mark.parametrize("task", GRAMMARS)
def test_every_key_of_a_table_is_in_the_config(task):
    cfg, table = GRAMMARS[task].config(), GRAMMARS[task].keys()
    assert [name for name in table if value_of(cfg, name) is None] == [
        "SOLVER.WEIGHT_DECAY_BIAS"
    ]  # whose default is None


def leaves(node, prefix=""):
    for key, value in node.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [prefix + key]


def test_every_key_of_segmentation_is_in_the_table():
    assert set(leaves(SEG.config())) == set(SEG.keys())


def test_every_key_that_detection_adds_is_in_the_table():
    assert set(leaves(DET.config())) - set(leaves(DET.base())) <= set(DET.keys())


def test_a_key_that_tasks_share_is_one_row():
    base = DET.base
    one = Grammar(base, lambda: {"A.B": at_least(1, 2, meaning="Same."), "A.C": Key(1.5, meaning="One.")})
    two = Grammar(base, lambda: {"A.B": at_least(1, 2, meaning="Same."), "A.C": Key("x|y", meaning="Two.")})
    found = rows({"one": one, "two": two})
    assert [(row.name, row.tasks, row.default) for row in found] == [
        ("A.B", ("one", "two"), "2"),
        ("A.C", ("one",), "1.5"),
        ("A.C", ("two",), "x|y"),
    ]
    assert list(markdown(found))[3:] == [
        "| `A.B` | one, two | int | `2` | 1 or more | Same. |",
        "| `A.C` | one | float | `1.5` |  | One. |",
        "| `A.C` | two | str | `x/y` |  | Two. |",
    ]


def test_groups():
    names = ("SEED", "SOLVER.MAX_ITER", "SOLVER.AMP.ENABLED", "DISTILL.SYNC", "DISTILL.DIST.TAU")
    assert [group(name) for name in names] == ["", "SOLVER", "SOLVER", "DISTILL", "DISTILL.DIST"]
