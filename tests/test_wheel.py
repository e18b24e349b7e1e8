"""What `pip install` puts on a user's machine."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOVED = ("common", "det", "seg", "configs", "packaging")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names in it, without what describes it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.iterdir())) as content:
        return {name for name in content.namelist() if ".dist-info/" not in name}


def test_wheel_holds_one_package_with_all_its_files(wheel):
    def files(folder):
        return {path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts}

    moved = {f"densedist/{path.relative_to(ROOT).as_posix()}" for folder in MOVED for path in files(folder)}
    assert wheel == moved | {path.relative_to(ROOT).as_posix() for path in files("densedist")}
    assert "densedist/common/losses/dist/loss.py" in wheel


def test_command_is_a_function_in_it(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["densedist"].partition(":")
    assert f"{module.replace('.', '/')}/__init__.py" in wheel
    assert name == "main"


def test_a_checkout_without_symbolic_links_says_what_to_do(tmp_path):
    """As Git makes it on Windows: a link is a file that holds where it leads."""
    package = tmp_path / "densedist"
    package.mkdir()
    shutil.copy(ROOT / "densedist" / "__init__.py", package)
    for name in MOVED:
        (package / name).write_text(f"../{name}")
    done = subprocess.run([sys.executable, "-c", "import densedist"], cwd=tmp_path, capture_output=True, text=True)
    line = done.stderr.strip().splitlines()[-1]
    assert line == (
        f"ImportError: {package / 'common'} is no folder, as this checkout has no symbolic links: `git config "
        "core.symlinks true`, then `git checkout -- densedist` (on Windows in Developer Mode)"
    )


def test_the_folders_of_a_checkout_are_linked_into_the_package():
    assert {path.name for path in (ROOT / "densedist").iterdir() if path.is_symlink()} == set(MOVED)
    assert all((ROOT / "densedist" / name).resolve() == ROOT / name for name in MOVED)
