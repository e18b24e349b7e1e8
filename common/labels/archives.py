"""Images in tar files, the form of WebDataset: unpacked beside the labels, because a student is trained on files."""

import json
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import Any

from detectron2.utils import comm
from tqdm import tqdm

from densedist.common.data.images import SUFFIXES, is_hidden, unique_names
from densedist.common.data.packed import stamp_of
from densedist.common.engine.run_folder import claimed_by_all
from densedist.common.errors import UserError
from densedist.common.extras import require
from densedist.common.files import write_text
from densedist.common.labels.shards import PAUSE, kept
from densedist.common.logging import on_terminal

TARS = (".tar", ".tar.gz", ".tgz")
NEEDS = EXTRA = "webdataset"
RECORD = ".unpacked.json"  # in a folder of images: the tar file that they come from; written last
DAMAGED = (tarfile.TarError, EOFError, zlib.error, OSError)  # what reading a tar file raises


def is_tar(word: str) -> bool:
    """Return whether a user's word names tar files."""
    return word.lower().endswith(TARS) and not Path(word).is_dir()


def folder_of_tars(output: Path) -> Path:
    """Return the folder for the images that are unpacked for the labels in an output folder."""
    whole = Path(os.path.abspath(output))  # "." has no name
    return whole.with_name(f"{whole.name}_images")


def unpack(words: Sequence[str], into: Path) -> list[str]:
    """Unpack the images of tar files, and return the words with folders in place of these.

    All processes of a group call it: each takes every n-th file, and waits for the others. A folder is there when all
    of its images are. One of an earlier call stays, if its tar file is as it was then.

    Args:
        words: what the user names; those of is_tar may be patterns.
        into: for a folder for each tar file, by its name.

    Raises:
        UserError: a pattern without a file, a file that is not there, damaged, without images, or whose images would
            lie outside of its folder; a folder that is there and comes from another file; a full disk; webdataset is
            not installed.
    """
    expanded = [tar for word in words for tar in (_files(word) if is_tar(word) else [word])]
    tars = [Path(word) for word in expanded if is_tar(word)]
    require([NEEDS], EXTRA, str(tars[0]))
    folders = [into / name for name in unique_names([_stem(tar) for tar in tars])]
    sources = [_source(tar) for tar in tars]
    missing = [n for n, folder in enumerate(folders) if not _is_unpacked(folder, sources[n])]
    with claimed_by_all(into, "--output-dir"):
        mine = missing[comm.get_rank() :: comm.get_world_size()]
        hidden = not (on_terminal() and comm.is_main_process())
        for n in tqdm(mine, desc="unpacking", unit="file", disable=hidden):
            with kept(into):
                _unpack(tars[n], folders[n], sources[n])
        while not all(folder.is_dir() for folder in folders):
            time.sleep(PAUSE)
    places = map(str, folders)
    return [next(places) if is_tar(word) else word for word in expanded]


def _files(word: str) -> list[str]:
    """Return the tar files that a word names."""
    if Path(word).exists() or not has_magic(word):
        return [word]
    if found := sorted(glob(word, recursive=True)):
        return found
    raise UserError(f"no file is like {word}")


def _stem(tar: Path) -> str:
    return next(tar.name[: -len(suffix)] for suffix in TARS if tar.name.lower().endswith(suffix))


def _source(tar: Path) -> dict[str, Any]:
    """Return what the images of a tar file depend on."""
    try:
        return {"file": str(tar.absolute()), "stamp": list(stamp_of(tar))}
    except OSError as error:
        raise UserError(f"{tar}: {error.strerror}") from error


def _is_unpacked(folder: Path, source: dict[str, Any]) -> bool:
    """Return whether a folder has the images of a tar file.

    Raises:
        UserError: it has others.
    """
    if not folder.exists():
        return False
    try:
        same = json.loads((folder / RECORD).read_text()) == source
    except (OSError, ValueError):
        same = False
    if same:
        return True
    raise UserError(
        f"{folder} is there, and not of {source['file']} as it is now: remove the folder, or name another --output-dir"
    )


def _unpack(tar: Path, folder: Path, source: dict[str, Any]) -> None:
    """Write the images of a tar file into a folder that appears when it is complete.

    Raises:
        OSError: they cannot be written.
        UserError: see unpack.
    """
    part = folder.with_name(f".{folder.name}")
    shutil.rmtree(part, ignore_errors=True)  # of a job that was killed
    try:
        count = 0
        part.mkdir()
        for name, content in _images(tar):
            file = part / _inside(name, tar)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            count += 1
        if not count:
            raise UserError(f"{tar} has no image: want files that end in {', '.join(SUFFIXES)}")
        write_text(part / RECORD, json.dumps(source) + "\n")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _images(tar: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the images in a tar file; its other files are passed over."""
    from webdataset.tariterators import tar_file_iterator  # here, because it is an extra

    def is_image(name: str) -> bool:
        return name.lower().endswith(SUFFIXES) and not is_hidden(Path(Path(name).name))

    try:
        with tar.open("rb") as stream:
            for item in tar_file_iterator(stream, select_files=is_image):
                yield item["fname"], item["data"]
    except DAMAGED as error:
        why = str(error).partition(" @ <")[0]  # from there on the library names the stream
        raise UserError(f"{tar} cannot be read: {why}") from error


def _inside(name: str, tar: Path) -> PurePosixPath:
    """Return the place of an image in the folder of its tar file.

    Raises:
        UserError: it lies outside.
    """
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts:
        raise UserError(f"{tar}: {name} would lie outside of the folder for its images: unpack the file yourself")
    return place
