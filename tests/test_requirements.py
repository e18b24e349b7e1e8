"""requirements.txt is the set pinned in pyproject.toml, with a hash for every file."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REQUIREMENTS = (ROOT / "requirements.txt").read_text()
# name==version, perhaps a marker, and one or more hashes on lines of their own
ENTRY = re.compile(r"([a-z0-9-]+)==([^ ]+)(?: ; [^\\\n]+)? \\\n(    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+")


def pinned():
    lines = (line.partition(";")[0].strip() for line in PROJECT["tool"]["uv"]["constraint-dependencies"])
    return {tuple(line.split("==")) for line in lines}


def test_every_line_is_pinned_and_hashed():
    assert ENTRY.sub("", re.sub("(?m)^#.*\n", "", REQUIREMENTS)) == ""


def test_versions_are_those_of_pyproject():
    listed = {(entry[1], entry[2]) for entry in ENTRY.finditer(REQUIREMENTS)}
    assert listed <= pinned()
    # Where versions differ by Python's, all of them.
    names = {name for name, _ in listed}
    assert listed == {(name, version) for name, version in pinned() if name in names}


def test_every_dependency_is_listed():
    names = {entry[1] for entry in ENTRY.finditer(REQUIREMENTS)}
    wanted = {re.match(r"[\w-]+", line)[0] for line in PROJECT["project"]["dependencies"]}
    assert wanted <= names


def test_build_tools_are_pinned_alike():
    builds = {tuple(line.split("==")) for line in PROJECT["tool"]["uv"]["build-constraint-dependencies"]}
    assert builds <= {(entry[1], entry[2]) for entry in ENTRY.finditer(REQUIREMENTS)}
