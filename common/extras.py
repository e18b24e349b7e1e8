"""Extras of the package, which bring what only some commands need, and how they are installed here."""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra.

    That of uv where it made the environment of this checkout, else that of pip; in a checkout with another environment
    both, as nothing tells how it was made.
    """
    pip, uv = f"pip install 'dense-dist[{extra}]'", f"uv sync --extra {extra}"
    if not (CHECKOUT / "pyproject.toml").is_file():
        return pip
    return uv if _made_by_uv() else f"{uv} (or, without uv, {pip})"


def _made_by_uv() -> bool:
    """Return whether Python runs in the environment that `uv sync` makes beside pyproject.toml."""
    environment = Path(sys.prefix)
    described = environment / "pyvenv.cfg"
    if environment.resolve() != CHECKOUT / ".venv" or not described.is_file():
        return False
    return any(line.partition("=")[0].strip() == "uv" for line in described.read_text().splitlines())
