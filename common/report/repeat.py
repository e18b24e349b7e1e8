"""How to repeat a run: its command and versions, without the places of this machine."""

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from densedist.common.shell import in_lines, launcher

PACKAGES = ("dense-dist", "torch", "torchvision", "detectron2", "segmentation-models-pytorch", "timm", "numpy")
SCRIPTS = ("train_det.py", "train_seg.py", "quickstart.py", "compare.py")  # of tools/
FOLDERS = re.compile(r"(?<![\w.~…/\\)\]-])(?:[A-Za-z]:[\\/]|~?/)(?:[^\s/\\'\",;:()\[\]{}<>]+[\\/])*(?=[^\s/\\<>])")


def this_command() -> str:
    """Return the command of this process for a shell, an option a line; "" where it was not one of DenseDIST's."""
    program, *words = sys.argv or [""]
    path = Path(program)
    if path.name == "densedist" or path.parts[-2:] == ("densedist", "__main__.py"):
        return in_lines([*starting(), *words])
    if path.name in SCRIPTS:
        return in_lines(["python", program, *words])
    return ""


def configured() -> str:
    """Return ", config student.yaml" where the command of this process has a config; else ""."""
    words = iter(sys.argv)
    found = next(words, "") if "--config-file" in words else ""
    return f", config {Path(found).name}" if found else ""


def starting() -> list[str]:
    """Return the words that start DenseDIST in the user's shell, without folders of this machine."""
    program, *rest = launcher()
    return [Path(program).name, *rest]


def versions() -> str:
    """Return the versions of Python and of the packages that decide about numbers."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def without_folders(text: str) -> str:
    """Return a text whose absolute paths have lost their folders: "…/student.pth" for "/home/me/runs/student.pth"."""
    for place in (Path.cwd(), Path.home()):
        if len(place.parts) > 1:
            text = re.sub(rf"{re.escape(str(place))}(?![\w.-])", "…", text)
    return re.sub(r"…/(?:[^\s/'\",;:()\[\]{}<>]+/)+", "…/", FOLDERS.sub("…/", text))
