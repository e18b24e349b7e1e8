"""The confusion matrix of an image, beside cityscapesscripts' own."""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from densedist.common.config import load
from densedist.common.profile import Step, extra_bytes, medians, report
from densedist.seg.config import GRAMMAR
from densedist.seg.evaluation import confusion_matrix
from densedist.seg.labels import Classes

CONFIG = "seg/data/cityscapes.yaml"
SIZE = (1024, 2048)


@dataclass(frozen=True)
class Result:
    """Seconds for an image; bytes of tensors beyond truth and prediction; whether the counts are cityscapesscripts'."""

    name: str
    seconds: float
    memory: int | None = None
    equal_counts: bool | None = None


def main(device: torch.device, file: Path | None, size: tuple[int, int] | None) -> None:
    """Measure; print a table, write everything to file as JSON.

    Args:
        size: height and width of the image; None = SIZE.
    """
    results = measure(device, size or SIZE)
    title = f"Confusion matrix of an image of {size or SIZE}"
    report(title, table(results), [asdict(result) for result in results], device, file)


def measure(device: torch.device, size: tuple[int, int]) -> list[Result]:
    """Ours of tensors; theirs of image files, and how much of that is reading these."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling

    classes = Classes.of(load(GRAMMAR, CONFIG))
    truth, guess = _label_ids(classes, size)
    ours = [torch.from_numpy(classes.train_ids[x]).long().to(device) for x in (truth, guess)]
    official = evalPixelLevelSemanticLabeling
    arguments = official.args
    arguments.evalInstLevelScore, arguments.evalPixelAccuracy = False, False
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{name}.png") for name in ("truth", "guess")]
        for path, image in zip(files, (truth, guess), strict=True):
            cv2.imwrite(path, image)

        def theirs() -> np.ndarray:
            counts = official.generateMatrix(arguments)
            official.evaluatePair(files[1], files[0], counts, {}, {}, arguments)
            return counts

        steps: dict[str, Step] = {
            "cityscapesscripts": theirs,
            "of that, reading": lambda: [cv2.imread(path, cv2.IMREAD_UNCHANGED) for path in files],
            "ours": lambda: confusion_matrix(ours[0], ours[1], len(classes)),
        }
        wanted = np.asarray(theirs())[np.ix_(classes.label_ids, classes.label_ids)]
        seconds = medians(steps, device)
    equal = np.array_equal(confusion_matrix(ours[0], ours[1], len(classes)).cpu(), wanted)
    memory = extra_bytes(steps["ours"], device)
    others = [Result(name, seconds[name]) for name in list(steps)[:2]]
    return [*others, Result("ours", seconds["ours"], memory, equal)]


def _label_ids(classes: Classes, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Truth of regions with any labelId, and a prediction that is right on nine pixels of ten."""
    height, width = size
    rng = np.random.default_rng(0)
    regions = rng.integers(0, 34, (height // 64, width // 64), dtype=np.uint8)
    truth = cv2.resize(regions, (width, height), interpolation=cv2.INTER_NEAREST)
    right = np.isin(truth, classes.label_ids) & (rng.random(size) < 0.9)
    return truth, np.where(right, truth, rng.choice(classes.label_ids, size)).astype(np.uint8)


def table(results: list[Result]) -> list[dict[str, str]]:
    """One line each; the ratio leaves out what cityscapesscripts takes to read its files."""
    theirs, reading, _ = results
    return [
        {
            "": r.name,
            "ms": f"{1e3 * r.seconds:.3g}",
            "x cityscapesscripts without reading": f"{(theirs.seconds - reading.seconds) / r.seconds:.1f}",
            "extra memory, MB": "" if r.memory is None else f"{r.memory / 1e6:.0f}",
            "equal counts": "" if r.equal_counts is None else str(r.equal_counts),
        }
        for r in results
    ]
