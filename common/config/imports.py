"""IMPORTS: code of one's own that a config asks for, and whose config may ask.

Importing a file runs it. So a config may do that where the user has named the config, or the file, on his own command
line; these files are written down in his cache. A config that only lies beside weights, or belongs to a teacher, may
ask for files that are written down there, for others with --trust-imports alone.
"""

import hashlib
import importlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from densedist.common.errors import UserError, one_line

logger = logging.getLogger(__name__)


def import_all(names: Sequence[str], source: str, trusted: bool) -> None:
    """Import modules by name, or .py files by absolute path, each once in a process.

    Args:
        source: what names them, for messages.
        trusted: whether the user himself does, or says that he trusts the source.

    Raises:
        UserError: a module that is not there, does not import, or is not to be trusted.
    """
    known = _known()
    for name in names:
        origin = _origin(name, source)
        if not trusted and origin not in known:
            raise UserError(
                f"{source} asks to import {name}, which can run any program; if you trust its origin, give "
                "--trust-imports"
            )
    for name in names:
        try:
            _import(name)
        except UserError:
            raise
        except Exception as error:  # it is somebody's code
            raise UserError(f"{source}: IMPORTS: {name} does not import: {one_line(error)}") from error
        logger.info(f"imported {name}, as {source} says")
    if trusted and names:
        _remember(known | {_origin(name, source) for name in names})


def imported(module: str, names: Sequence[str]) -> ModuleType | None:
    """The module of that name, where IMPORTS named it or a file of that name, and import_all has imported it."""
    for name in names:
        if name == module:
            return sys.modules.get(name)
        if name.endswith(".py") and _module_name(Path(name)) == module:
            path = str(Path(name).resolve())
            return next((m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == path), None)
    return None


def _module_name(file: Path) -> str:
    return re.sub(r"\W", "_", file.stem)


def _import(name: str) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    path = Path(name).resolve()
    module = _module_name(path)
    if _taken(module, path):
        module += f"_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module in sys.modules:
        return
    if str(path.parent) not in sys.path:  # at the end: it may import its neighbors and hide nothing
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[module] = loaded = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[module]
        raise


def _taken(module: str, path: Path) -> bool:
    """Whether another file has the module's name."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__file__", None) != str(path)
    found = importlib.util.find_spec(module)
    return found is not None and found.origin != str(path)


def _origin(name: str, source: str) -> str:
    """The file that would run: of a package the one that stands for all of it."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UserError(f"{source}: IMPORTS: there is no file {name}")
        return str(Path(name).resolve())
    package = name.partition(".")[0]  # to look for what is inside would import it
    spec = importlib.util.find_spec(package) if package else None
    if spec is None:
        raise UserError(f"{source}: IMPORTS: there is no module {name}: install it, or give the path of its .py file")
    return str(spec.origin)


def _record() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dense-dist" / "imports.txt"


def _known() -> set[str]:
    return set(_record().read_text().splitlines()) if _record().is_file() else set()


def _remember(files: set[str]) -> None:
    if files == _known():
        return
    try:
        _record().parent.mkdir(parents=True, exist_ok=True)
        _record().write_text("".join(f"{file}\n" for file in sorted(files)))
    except OSError as error:  # a cache that cannot be written: the next command asks
        logger.warning(f"{_record()} cannot be written: {error.strerror}")
