"""What is imported is declared; requirements.txt is the set pinned in pyproject.toml, with a hash for every file."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
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


# Imported, and not declared, for a reason.
NOT_DECLARED = {
    "detectron2",  # PyPI does not have it under that name
    "triton",  # comes with torch where there is one
}


def distributions():
    """What the package imports from others, at its head or in a function, by the names that they are installed by."""
    files = [file for wing in ("common", "det", "seg", "densedist") for file in (ROOT / wing).rglob("*.py")]
    found = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    tops = {name.split(".")[0] for name in found} - set(sys.stdlib_module_names) - {"densedist"}
    known = packages_distributions()
    return {re.sub("[_.]", "-", name).lower() for top in tops for name in known.get(top, [top])}


def declared(lines):
    return {re.match(r"[\w-]+", line)[0] for line in lines}


def test_what_is_imported_is_declared():
    project = PROJECT["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    assert distributions() - NOT_DECLARED <= declared([*project["dependencies"], *extras])


def test_what_is_declared_is_imported():
    assert declared(PROJECT["project"]["dependencies"]) <= distributions()
