"""Extras of the package, which bring what only some commands need, and how they are installed here."""

import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from densedist.common.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[1]


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra.

    That of uv where it made the environment of this checkout; it leaves as it is what else is installed. Otherwise
    that of pip; in a checkout with another environment both, as nothing tells how it was made.
    """
    pip, uv = f"pip install 'dense-dist[{extra}]'", f"uv sync --inexact --extra {extra}"
    if not (CHECKOUT / "pyproject.toml").is_file():
        return pip
    return uv if _made_by_uv() else f"{uv} (or, without uv, {pip})"


def first_absent(packages: Iterable[str]) -> str:
    """Return the first package that is not installed; "" where all are. None is imported."""
    return next((name for name in packages if find_spec(name) is None), "")


def is_missing(package: str, extra: str) -> str:
    """Say that a package is missing, and how to install the extra that brings it."""
    return f"the package {package} is missing: install it by {how_to_install(extra)}"


def require(packages: Iterable[str], extra: str, source: str) -> None:
    """Refuse to go on without packages.

    Args:
        source: begins the message.

    Raises:
        UserError: naming the first that is not installed, and how the extra is installed that brings it.
    """
    if package := first_absent(packages):
        raise UserError(f"{source}: {is_missing(package, extra)}")


def _made_by_uv() -> bool:
    """Return whether Python runs in the environment that `uv sync` makes beside pyproject.toml."""
    environment = Path(sys.prefix)
    described = environment / "pyvenv.cfg"
    if environment.resolve() != CHECKOUT / ".venv" or not described.is_file():
        return False
    return any(line.partition("=")[0].strip() == "uv" for line in described.read_text().splitlines())
