"""PEP 517 backend: turns PyPI's sal-detectron2 wheel into a pure-Python wheel named detectron2."""

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

from wheel.wheelfile import WheelFile

SOURCE = "sal-detectron2==0.7.2"
SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"


def download(folder: Path) -> Path:
    """Fetch the source wheel with pip, which refuses a file whose hash is not SHA256."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{SOURCE} --hash=sha256:{SHA256}\n")
    environment = dict(os.environ)
    if index := environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL"):
        environment["PIP_INDEX_URL"] = index
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
    # The wheel is tagged for CPython 3.10 because of the extension that is dropped below.
    tags = ["--only-binary=:all:", "--python-version=3.10", "--implementation=cp", "--abi=none", "--platform=any"]
    subprocess.run([*command, *tags, "--dest", str(folder), "-r", str(requirements)], check=True, env=environment)
    return next(folder.glob("*.whl"))


def metadata(project: dict) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"Summary: {project['description']}", f"Requires-Python: {project['requires-python']}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    return "\n".join(lines) + "\n"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    stem = f"{project['name']}-{project['version']}"
    name = f"{stem}-py3-none-any.whl"
    tag = "Wheel-Version: 1.0\nGenerator: repack\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with (
        tempfile.TemporaryDirectory() as folder,
        ZipFile(download(Path(folder))) as source,
        WheelFile(Path(wheel_directory, name), "w") as target,
    ):
        for entry in source.namelist():
            # Not `tools/` either: a top-level package of that name would shadow other people's.
            if entry.startswith("detectron2/") and not entry.startswith("detectron2/_C."):
                target.writestr(entry, source.read(entry))
        license = next(entry for entry in source.namelist() if entry.endswith(".dist-info/LICENSE"))
        target.writestr(f"{stem}.dist-info/LICENSE", source.read(license))
        target.writestr(f"{stem}.dist-info/METADATA", metadata(project))
        target.writestr(f"{stem}.dist-info/WHEEL", tag)
    return name
