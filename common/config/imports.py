"""Import the modules and .py files that a config names under IMPORTS, if the user trusts them.

Importing a file runs it. A config may ask for that where the user has named the config, or the file, on the command
line; what ran then is recorded in the user's cache, by path and content. A config that was found with weights, is a
_BASE_, or belongs to a teacher may ask for what is recorded there; anything else needs --trust-imports.
"""

import hashlib
import importlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from densedist.common.errors import UserError, one_line
from densedist.common.files import write_text

logger = logging.getLogger(__name__)
ENTRY = re.compile(r"[0-9a-f]{64}  .+")  # a line of the record


@dataclass(frozen=True)
class Code:
    """What an import would run, as it is now.

    Args:
        place: the real path of a file, or of a package's folders.
        digest: SHA-256 of its content; of a package that of all sources in its folders.
        source: the text of a .py file.
    """

    place: str
    digest: str
    source: bytes = b""

    def __str__(self) -> str:
        return f"{self.digest}  {self.place}"


def import_all(names: Sequence[str], source: str, trusted: bool) -> None:
    """Import modules by name, or .py files by absolute path, each once in a process.

    Args:
        source: what names them, for messages.
        trusted: the user named the source, or gave --trust-imports.

    Raises:
        UserError: a module that is not there, does not import, or is not to be trusted.
    """
    known = _known()
    codes = {name: _code(name, source) for name in names}
    for name, code in codes.items():
        if not trusted and str(code) not in known:
            changed = any(line.partition("  ")[2] == code.place for line in known)
            reason = "has changed since you trusted it and can" if changed else "can"
            raise UserError(
                f"{source} asks to import {name}, which {reason} run any program; if you trust its origin, give "
                "--trust-imports"
            )
    for name, code in codes.items():
        try:
            _import(name, code)
        except UserError:
            raise
        except Exception as error:  # it is somebody's code
            raise UserError(f"{source}: IMPORTS: {name} does not import: {one_line(error)}") from error
        logger.info(f"imported {name}, as {source} says")
    if trusted and names:
        _remember(known | {str(code) for code in codes.values()})


def imported(module: str, names: Sequence[str]) -> ModuleType | None:
    """Return the module of a name that import_all has imported by this name or as a file of this name."""
    for name in names:
        if name == module:
            return sys.modules.get(name)
        if name.endswith(".py") and _module_name(Path(name)) == module:
            path = str(Path(name).resolve())
            return next((m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == path), None)
    return None


def _module_name(file: Path) -> str:
    return re.sub(r"\W", "_", file.stem)


class _Checked(SourceFileLoader):
    """Run the text that was checked, not what the file or its .pyc holds by now."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._source, self.path)


def _import(name: str, code: Code) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    path = Path(code.place)
    module = _module_name(path)
    if _taken(module, path):
        module += f"_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module in sys.modules:
        return
    if str(path.parent) not in sys.path:  # at the end: it may import its neighbors and hide nothing
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(module, path, loader=_Checked(module, str(path), code.source))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[module] = loaded = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[module]
        raise


def _taken(module: str, path: Path) -> bool:
    """Return whether another file has the module's name."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__file__", None) != str(path)
    found = importlib.util.find_spec(module)
    return found is not None and found.origin != str(path)


def _code(name: str, source: str) -> Code:
    """Read what would run; for a module in a package all of the package, as less is not known before the import."""
    if name.endswith(".py"):
        try:
            content = Path(name).read_bytes()
        except OSError as error:
            raise UserError(f"{source}: IMPORTS: there is no file {name}") from error
        return Code(str(Path(name).resolve()), hashlib.sha256(content).hexdigest(), content)
    package = name.partition(".")[0]  # to look for what is inside would import it
    spec = importlib.util.find_spec(package) if package else None
    if spec is None:
        raise UserError(f"{source}: IMPORTS: there is no module {name}: install it, or give the path of its .py file")
    folders = sorted(str(Path(folder).resolve()) for folder in spec.submodule_search_locations or ())
    if folders:
        digest = hashlib.sha256()
        for folder in folders:
            for line in _contents(Path(folder)):
                digest.update(line)
        return Code(os.pathsep.join(folders), digest.hexdigest())
    file = Path(spec.origin or "")
    if not file.is_file():  # built into Python
        return Code(f"{sys.executable} {package}", hashlib.sha256(package.encode()).hexdigest())
    return Code(str(file.resolve()), hashlib.sha256(file.read_bytes()).hexdigest())


def _contents(folder: Path) -> Iterator[bytes]:
    """Yield each source of a package with its path and digest, each compiled module with path, size and time."""
    for file in sorted(folder.rglob("*")):
        path = str(file.relative_to(folder)).encode()
        if file.suffix == ".py" and file.is_file():
            yield path + b"\0" + hashlib.sha256(file.read_bytes()).digest()
        elif file.name.endswith(tuple(EXTENSION_SUFFIXES)) and file.is_file():
            about = file.stat()
            yield path + f"\0{about.st_size} {about.st_mtime_ns}".encode()


def _record() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dense-dist" / "imports.txt"


def _known() -> set[str]:
    lines = _record().read_text().splitlines() if _record().is_file() else []
    return {line for line in lines if ENTRY.fullmatch(line)}  # others are of a version that went by paths alone


def _remember(codes: set[str]) -> None:
    if codes == _known():
        return
    try:
        _record().parent.mkdir(parents=True, exist_ok=True)
        write_text(_record(), "".join(f"{code}\n" for code in sorted(codes)))
    except OSError as error:  # a cache that cannot be written: the next command asks
        logger.warning(f"{_record()} cannot be written: {error.strerror}")
