"""Distill strong detectors and segmentation models into small students.

For notebooks and scripts: train, evaluate, predict, visualize, label, compare, tune, export, load_student. The command
of the same name does the same from a shell. Nothing heavy is imported before it is asked for.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a checkout these are symbolic links to the folders beside this one; in an installed package, folders.
if not (Path(__file__).parent / "common").is_dir():
    raise ImportError(
        f"{Path(__file__).parent / 'common'} is no folder, as this checkout has no symbolic links: "
        "`git config core.symlinks true`, then `git checkout -- densedist` (on Windows in Developer Mode)"
    )

if TYPE_CHECKING:
    from densedist.api import compare, evaluate, export, label, load_student, predict, train, tune, visualize
    from densedist.common.errors import UserError

__all__ = [
    "UserError",
    "compare",
    "evaluate",
    "export",
    "label",
    "load_student",
    "predict",
    "train",
    "tune",
    "visualize",
]


def __getattr__(name: str) -> Any:
    if name == "UserError":
        from densedist.common.errors import UserError

        return UserError
    if name in __all__:
        check_installation()
        from densedist import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def check_installation() -> None:
    """Refuse a machine on which nothing would run.

    Raises:
        ImportError: it is Windows, or has no Detectron2; in one line, which says what helps.
    """
    if sys.platform == "win32":
        raise ImportError("densedist runs on Linux and macOS: on Windows, install it under WSL (`wsl --install`)")
    if find_spec("detectron2") is None:
        folder = (Path(__file__).parent / "packaging" / "detectron2").resolve()
        raise ImportError(
            "densedist needs Detectron2, which PyPI does not have under that name: "
            f"`pip install {folder}` installs it without a compiler, "
            "`pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2` compiles it"
        )
