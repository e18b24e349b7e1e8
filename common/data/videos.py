"""Video files: frame by frame, drawn into another video."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from densedist.common.errors import UserError
from densedist.common.logging import on_terminal
from densedist.common.words import some

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm")
USUAL_RATE = 25.0  # frames a second, of a file that does not say it


def split_videos(paths: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Split paths into those of images and folders, and those of videos.

    Raises:
        UserError: a video that cannot be read.
    """
    videos = [Path(path) for path in paths if Path(path).suffix.lower() in SUFFIXES and not Path(path).is_dir()]
    for file in videos:
        if not file.is_file():
            raise UserError(f"there is no file {file}")
        capture = cv2.VideoCapture(str(file))
        if not capture.read()[0]:
            raise UserError(f"{file} cannot be read as a video by OpenCV")
        capture.release()
    return [path for path in paths if Path(path) not in videos], videos


def counted(images: int, videos: int) -> str:
    """Return how many images and videos there are, in words."""
    return " and ".join(some(count, noun) for count, noun in ((images, "image"), (videos, "video")) if count)


def redraw(file: Path, drawn: Path, draw: Callable[[np.ndarray], np.ndarray]) -> int:
    """Write a video (MPEG-4) with a picture of each frame of another one, at the same rate.

    Args:
        draw: RGB (H, W, 3), uint8 -> an RGB picture, of one size for all frames.

    Returns:
        how many frames there are.

    Raises:
        UserError: OpenCV cannot write it.
    """
    capture, writer, count = cv2.VideoCapture(str(file)), None, 0
    rate, total = capture.get(cv2.CAP_PROP_FPS) or USUAL_RATE, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    drawn.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tqdm(total=total if total > 0 else None, desc=file.name, disable=not on_terminal()) as bar:
            while (read := capture.read())[0]:
                picture = draw(np.ascontiguousarray(read[1][..., ::-1]))
                if writer is None:
                    height, width = picture.shape[:2]
                    writer = cv2.VideoWriter(str(drawn), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
                    if not writer.isOpened():
                        raise UserError(f"{drawn} cannot be written as a video by OpenCV")
                writer.write(np.ascontiguousarray(picture[..., ::-1]))
                count += 1
                bar.update()
    finally:
        capture.release()
        if writer is not None:
            writer.release()
    return count
