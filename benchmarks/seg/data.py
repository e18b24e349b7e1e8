"""Time training samples of Cityscapes' format, a loader that resizes the whole image, and decoding alone.

The same for files that `densedist prepare` wrote.
"""

import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import torch

from densedist.common.config import load
from densedist.common.profile import Step, medians, report
from densedist.seg.config import GRAMMAR
from densedist.seg.data.frames import IMAGES, LABELS, Frame, frames
from densedist.seg.data.preparing import prepare
from densedist.seg.data.reading import Reader
from densedist.seg.data.transforms import training_transform
from densedist.seg.labels import IGNORE, Classes

CONFIG = "seg/cityscapes/base.yaml"
SIZE = (1024, 2048)
FRAMES = 4


@dataclass(frozen=True)
class Result:
    """Seconds of a sample in one worker."""

    name: str
    seconds: float


def main(file: Path | None, size: tuple[int, int] | None) -> None:
    """Measure; print a table, write everything to file as JSON.

    Args:
        size: height and width of the images, of which crops are half as high and wide; None = SIZE.
    """
    results = measure(size or SIZE)
    title = f"Cityscapes' training samples, images of {size or SIZE}, one worker"
    report(title, table(results), [asdict(result) for result in results], torch.device("cpu"), file)


def measure(size: tuple[int, int]) -> list[Result]:
    """Decoding, the plain loader and ours, on images that compress like photographs."""
    cfg = load(GRAMMAR, CONFIG, ["INPUT.CROP_SIZE", str([length // 2 for length in size])])
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # as in a worker
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, prepared = Path(folder, "source"), Path(folder, "prepared")
            write_scenes(source, size)
            prepare(source, prepared)
            files, quick_files = (frames(str(x), "train", "DATASETS.TRAIN", True) for x in (source, prepared))
            ours = Reader(Classes.of(cfg), cfg.INPUT.FORMAT, training_transform(cfg))
            plain = Reader(Classes.of(cfg), cfg.INPUT.FORMAT, partial(_plain, cfg.INPUT.SCALES, cfg.INPUT.CROP_SIZE))
            # As many samples as there are scales, for a mean over them.
            batch, quick = (list(islice(cycle(x), len(cfg.INPUT.SCALES))) for x in (files, quick_files))
            steps: dict[str, Step] = {
                "decoding alone": lambda: [_decode(frame) for frame in batch],
                "plain loader": lambda: [plain(frame) for frame in batch],
                "ours": lambda: [ours(frame) for frame in batch],
                "ours, prepared": lambda: [ours(frame) for frame in quick],
            }
            seconds = medians(steps, torch.device("cpu"))
    finally:
        cv2.setNumThreads(threads)
    return [Result(name, value / len(batch)) for name, value in seconds.items()]


def write_scenes(root: Path, size: tuple[int, int]) -> None:
    """A training split of smooth scenes with a camera's noise, which take about as many bytes as Cityscapes' do."""
    height, width = size
    rng = np.random.default_rng(0)
    for kind in (IMAGES, LABELS):
        (root / kind / "train" / "town").mkdir(parents=True)
    for index in range(FRAMES):
        coarse = rng.integers(0, 256, (height // 32, width // 32, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        image = np.clip(smooth + rng.normal(0, 1.2, smooth.shape), 0, 255).astype(np.uint8)
        regions = rng.integers(0, 34, (height // 64, width // 64), dtype=np.uint8)
        label = cv2.resize(regions, (width, height), interpolation=cv2.INTER_NEAREST)
        for kind, suffix, values in ((IMAGES, IMAGES, image), (LABELS, f"{LABELS}_labelIds", label)):
            cv2.imwrite(str(root / kind / "train" / "town" / f"town_000000_{index:06}_{suffix}.png"), values)


def _decode(frame: Frame) -> tuple:
    return cv2.imread(frame["image"], cv2.IMREAD_COLOR_RGB), cv2.imread(frame["label"], cv2.IMREAD_UNCHANGED)


def _plain(scales: list, crop_size: list, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Resize the whole, pad, crop, flip."""
    scale = np.random.choice(scales)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    height, width = crop_size
    more = max(height - label.shape[0], 0), max(width - label.shape[1], 0)
    image = cv2.copyMakeBorder(image, 0, more[0], 0, more[1], cv2.BORDER_CONSTANT)
    label = cv2.copyMakeBorder(label, 0, more[0], 0, more[1], cv2.BORDER_CONSTANT, value=[IGNORE])
    y, x = np.random.randint(label.shape[0] - height + 1), np.random.randint(label.shape[1] - width + 1)
    there = np.s_[y : y + height, x : x + width : 1]
    image, label = image[there], label[there]
    return (image[:, ::-1], label[:, ::-1]) if np.random.rand() < 0.5 else (image, label)


def table(results: list[Result]) -> list[dict[str, str]]:
    """One line each, with the speed relative to the plain loader's and to decoding."""
    decoding, plain, *_ = results
    return [
        {
            "": r.name,
            "ms / sample": f"{1e3 * r.seconds:.3g}",
            "samples / s": f"{1 / r.seconds:.1f}",
            "x plain loader": f"{plain.seconds / r.seconds:.2f}",
            "x decoding": f"{decoding.seconds / r.seconds:.2f}",
        }
        for r in results
    ]
