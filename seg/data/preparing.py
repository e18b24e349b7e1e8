"""A copy of a data set in Cityscapes' format that decodes in no time: the same pixels, uncompressed."""

import io
import shutil
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from densedist.common.data.headers import read_header
from densedist.common.data.images import DamagedError, check_image
from densedist.common.data.pixels import read_pixels
from densedist.common.errors import UserError
from densedist.common.files import write_atomic
from densedist.common.logging import on_terminal
from densedist.seg.data.frames import IMAGES, TREE, image_files, label_files
from densedist.seg.data.label_images import read_label_ids
from densedist.seg.data.reading import turned

SUFFIX = ".bmp"  # one that OpenCV and Pillow read, and that keeps 8 bits as they are
THREADS = 4


def prepare(source: Path, output: Path) -> tuple[int, int]:
    """Write each image and label of all splits again, under the same name.

    What an earlier call has written and what has not changed since stays.

    Args:
        source: a folder in Cityscapes' format; of labels those of labelIds and labelTrainIds.
        output: another one; becomes DATASETS.ROOT.

    Returns:
        the number of files, and of those among them that were there.

    Raises:
        UserError: no such folder, no image in it, an image that is damaged or shown turned, too small a disk.
    """
    if output.resolve() == source.resolve():
        raise UserError(f"--output-dir is {source} itself: name another folder")
    images, labels = image_files(source / IMAGES), label_files(source)
    if not images:
        raise UserError(f"no image in {source}: {TREE}")
    work = [(file, _image) for file in images] + [(file, read_label_ids) for file in labels]
    todo = [(file, _target(file, source, output), read) for file, read in work]
    todo = [one for one in todo if not _is_there(*one[:2])]
    _check_disk(todo, output)
    with ThreadPool(THREADS) as pool:
        done = pool.imap_unordered(_write, todo)
        for _ in tqdm(done, "preparing", len(todo), disable=not on_terminal()):
            pass
    return len(work), len(work) - len(todo)


def _target(file: Path, source: Path, output: Path) -> Path:
    return (output / file.relative_to(source)).with_suffix(SUFFIX)


def _is_there(file: Path, target: Path) -> bool:
    return target.is_file() and target.stat().st_mtime >= file.stat().st_mtime


def _check_disk(todo: list[tuple[Path, Path, Callable]], output: Path) -> None:
    wanted = 0
    for file, _, read in todo:
        try:
            height, width = read_header(str(file)).size
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{file} cannot be read as an image: {error}") from error
        wanted += height * width * (3 if read is _image else 1)
    output.mkdir(parents=True, exist_ok=True)
    if wanted > (free := shutil.disk_usage(output).free):
        raise UserError(f"--output-dir {output}: {wanted / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


def _image(path: str) -> np.ndarray:
    try:
        header = check_image(path)
    except DamagedError as error:
        raise UserError(str(error)) from error
    if why := turned(header):
        raise UserError(f"{path} {why}")
    return read_pixels(path, "BGR", header)


def _write(one: tuple[Path, Path, Callable[[str], np.ndarray]]) -> None:
    file, target, read = one
    pixels = read(str(file))
    _, data = cv2.imencode(SUFFIX, pixels)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, lambda out: shutil.copyfileobj(io.BytesIO(data.tobytes()), out))
    if not np.array_equal(read(str(target)), pixels):
        raise UserError(f"{target} does not have the pixels of {file}")
