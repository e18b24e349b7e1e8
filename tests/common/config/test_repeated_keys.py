"""A key that YAML has twice is refused with its lines, in any file of a _BASE_ chain."""

import pytest

from densedist.common.config import CONFIGS, MODEL_ZOO, load
from densedist.common.config.repeated_keys import refuse_repeated_keys
from densedist.common.errors import UserError
from densedist.det.config import GRAMMAR


def read(file):
    return load(GRAMMAR, str(file))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SOLVER: {MAX_ITER: 1}\nTASK: det\nSOLVER: {BASE_LR: 0.1}\n", "SOLVER twice, in lines 1 and 3"),
        ("SOLVER:\n  MAX_ITER: 1\n  BASE_LR: 0.1\n  MAX_ITER: 2\n", "SOLVER.MAX_ITER twice, in lines 2 and 4"),
        ("SOLVER: {MAX_ITER: 1, 'MAX_ITER': 1}\n", "SOLVER.MAX_ITER twice, in lines 1 and 1"),
        (
            "DISTILL:\n  TEACHER:\n    MORE:\n    - {WEIGHTS: a,\n       WEIGHTS: b}\n",
            "MORE[0].WEIGHTS twice, in lines 4 and 5",
        ),
    ],
)
def test_a_key_given_twice_is_refused_with_its_lines(text, words, tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text(text)
    (tmp_path / "run.yaml").write_text("_BASE_: base.yaml\nSOLVER: {MAX_ITER: 3}\n")
    for file in (base, tmp_path / "run.yaml"):
        with pytest.raises(UserError) as refused:
            read(file)
        assert str(refused.value).startswith(f"config file {base} has ")
        assert str(refused.value).endswith(f"{words}: join them, or leave one out")


@pytest.mark.parametrize(
    "text",
    [
        "a: {x: 1}\nb: {x: 1}\n",
        "a: &a {x: 1}\nb: *a\nc: {<<: *a, x: 2}\n",
        "a: &a\n- *a\n",
        "a: [{x: 1}, {x: 2}]\n",
        "1: a\n'1': b\n",
        "",
    ],
)
def test_the_same_word_in_two_places_is_no_key_given_twice(text):
    refuse_repeated_keys(text, "a.yaml")


@pytest.mark.parametrize("folder", [CONFIGS, MODEL_ZOO], ids=["packaged", "zoo"])
def test_no_config_that_comes_with_the_package_has_a_key_twice(folder):
    for file in sorted(folder.rglob("*.yaml")):
        refuse_repeated_keys(file.read_text(), str(file))
