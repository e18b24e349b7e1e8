"""Data sets of other forms, written as COCO JSON into the user's cache: from there on there is one form only."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from densedist.common.data.digits import root
from densedist.common.data.headers import Size, read_header
from densedist.common.errors import UserError
from densedist.common.files import write_text

VERSION = 2  # of what is written


def as_json(form: str, files: Sequence[Path], parts: Iterable[str], make: Callable[[], dict[str, Any]]) -> str:
    """The path of a JSON file with what make() gives, which is asked again when a file has changed.

    Args:
        form: the name of the form.
        files: whose names, sizes and times of change decide, with parts, whether it is written anew.
        parts: what else decides.
    """
    digest = hashlib.sha256(f"{VERSION} {form}".encode())
    for part in parts:
        digest.update(f"\0{part}".encode())
    for file in files:
        try:
            about = os.stat(file)
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror}") from error
        digest.update(f"\0{file.absolute()}\0{about.st_size}\0{about.st_mtime_ns}".encode())
    path = root().parent / "data" / f"{form}-{digest.hexdigest()[:24]}.json"
    if not path.is_file():
        content = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content))
    return str(path)


def image_size(path: Path) -> Size:
    """Height and width, as Detectron2 reads the file.

    Raises:
        UserError: no image.
    """
    try:
        return read_header(str(path)).size
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error


def categories(names: Sequence[str]) -> list[dict[str, Any]]:
    """COCO's entries for classes, numbered from 0."""
    return [{"id": number, "name": str(name)} for number, name in enumerate(names)]
