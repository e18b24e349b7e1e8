"""The house: who may import whom, where data flows, and what is the same whatever name it is imported by."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import densedist
from densedist.command import COMMANDS
from densedist.tasks import task_named
from helpers.calling import complaint

ROOT = Path(__file__).parents[1]
WINGS = ("common", "det", "seg", "densedist")
FILES = {file.relative_to(ROOT): file for wing in WINGS for file in (ROOT / wing).rglob("*.py")}


def module(path):
    """Its name as everybody imports it."""
    parts = [*path.with_suffix("").parts]
    parts = parts if parts[0] == "densedist" else ["densedist", *parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): file for path, file in FILES.items()}


def imported(name):
    """Modules of ours that a module imports when it is imported itself."""
    found = set()
    for node in ast.parse(MODULES[name].read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("densedist"):
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= inside or {node.module}
    return found - {name}


GRAPH = {name: imported(name) for name in MODULES}


def room(name):
    """The folder of a wing that a module lies in; a file that lies loose there has one to itself."""
    return ".".join(name.split(".")[: 3 if wing(name) != "densedist" else 2])


def wing(name):
    second = name.split(".")[1:2]
    return second[0] if second and second[0] in WINGS else "densedist"


def circle(graph):
    """A path that ends where it began, of a graph of names; empty if there is none."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        path.append(name)
        found = next(filter(None, (visit(other) for other in sorted(graph.get(name, ())))), [])
        path.pop()
        done.add(name)
        return found

    return next(filter(None, map(visit, sorted(graph))), [])


def test_walls():
    for name, others in GRAPH.items():
        forbidden = {"common": ("det", "seg"), "det": ("seg",), "seg": ("det",)}.get(wing(name), ())
        assert not [o for o in others if wing(o) in forbidden], name


def test_what_is_trained_does_not_know_who_trains_it():
    rooms = tuple(f"densedist.common.{room}" for room in ("config", "data", "losses", "distill", "run_files"))
    inner = {name: others for name, others in GRAPH.items() if name.startswith(rooms)}
    assert len(inner) > 50
    assert not {name: o for name, others in inner.items() for o in others if o.startswith("densedist.common.engine")}


def test_no_circle_of_imports():
    assert not circle(GRAPH)


@pytest.mark.parametrize("name", WINGS)
def test_no_circle_of_rooms(name):
    rooms = {}
    for module, others in GRAPH.items():
        if wing(module) == name:
            rooms.setdefault(room(module), set()).update(room(o) for o in others if room(o) != room(module))
    assert len(rooms) > 4
    assert not circle(rooms)


def test_benchmarks_are_imported_by_tests_and_tools_alone():
    nodes = [node for file in FILES.values() for node in ast.walk(ast.parse(file.read_text()))]
    named = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in named if name and name.split(".")[0] == "benchmarks"]


def test_each_task_is_the_one_of_its_name():
    assert [task_named(name).name for name in ("det", "seg")] == ["det", "seg"]


def test_names_in_a_checkout_are_the_same_things():
    """Scripts from before there was one root; importing them a second time registers nothing twice."""
    from common.losses import DISTLoss, KDLoss, MimicLoss, RKDLoss
    from densedist import det
    from densedist.common import losses
    from det import DistillRCNN, add_distill_config

    assert (DISTLoss, KDLoss) == (losses.DISTLoss, losses.KDLoss)
    assert (MimicLoss, RKDLoss) == (losses.MimicLoss, losses.RKDLoss)
    assert (DistillRCNN, add_distill_config) == (det.DistillRCNN, det.add_distill_config)


def test_importing_changes_nothing_for_others():
    program = "import sys, warnings; before = (list(sys.path), list(warnings.filters)); import densedist.common; "
    program += "assert (list(sys.path), list(warnings.filters)) == before; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_there_before_anything_heavy_is_imported(name):
    program = f"import sys; from densedist.command import main\ntry: main([{name!r}, '--help'])\n"
    program += "except SystemExit as stop: assert stop.code == 0\nassert not {'torch', 'detectron2'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith(f"usage: densedist {name} ")
    assert "LazyConfig" not in done.stdout


def test_no_tool_hides_a_module_of_python():
    """A script's folder comes first on its path."""
    assert not {file.stem for file in (ROOT / "tools").glob("*.py")} & set(sys.stdlib_module_names)


def test_wrong_command_lines_are_one_line(capsys):
    assert complaint(capsys, "trian").startswith("there is no command trian; want one of train, eval, ")
    assert complaint(capsys, "train", "pose").startswith("argument task: invalid choice: 'pose'")
    assert complaint(capsys, "compare", "seg", "c", "--seeds", "a") == (
        "argument --seeds: invalid list of whole numbers value: 'a'"
    )
    assert complaint(capsys, "predict") == "the following arguments are required: --weights"


def test_missing_detectron2_is_one_line_with_the_commands_that_help(monkeypatch, capsys):
    monkeypatch.setattr(densedist, "find_spec", lambda name: None)
    folder = ROOT / "packaging" / "detectron2"
    message = complaint(capsys, "train", "det", "--config-file", "det/digits/retinanet_r10t.yaml")
    assert message.startswith("densedist needs Detectron2, which PyPI does not have under that name: ")
    assert f"`pip install {folder}` installs it without a compiler" in message
    with pytest.raises(ImportError, match="facebookresearch/detectron2` compiles it"):
        densedist.train  # noqa: B018


def test_windows_is_one_line_that_says_what_helps(monkeypatch, capsys):
    monkeypatch.setattr(densedist.sys, "platform", "win32")
    assert complaint(capsys, "check", "seg").startswith("densedist runs on Linux and macOS: on Windows, ")
