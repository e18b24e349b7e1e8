"""Memory and start of `densedist label det` with many images: all is real but the model and the pixels.

uv run python -m benchmarks.labels --images 200000 --labeled 198000
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import nn

from densedist.common.labeling import Labeling
from densedist.common.labels.listing import list_images
from densedist.common.labels.loading import Item
from densedist.common.labels.shards import begin
from densedist.common.run_files import Weights
from densedist.det.config import GRAMMAR
from densedist.det.inference import labeling
from densedist.det.models import Trained

LINKS = 30_000  # to a file: most file systems allow no more than 65,000
FOUND = 10  # boxes in each image
CLASSES = tuple(f"class {number}" for number in range(80))


class Stub(nn.Module):
    """A detector that sees the same boxes everywhere."""

    def __init__(self) -> None:
        super().__init__()
        corner = torch.rand(FOUND, 2, generator=torch.Generator().manual_seed(0)) * 300
        self.boxes = torch.cat([corner, corner + 40], 1)
        self.scores = torch.linspace(0.95, 0.5, FOUND)
        self.started = 0.0

    def forward(self, samples: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        self.started = self.started or time.perf_counter()
        return [{"instances": self._found(sample)} for sample in samples]

    def _found(self, sample: dict[str, Any]) -> Instances:
        size = sample["height"], sample["width"]
        classes = torch.arange(FOUND) % len(CLASSES)
        return Instances(size, pred_boxes=Boxes(self.boxes.clone()), scores=self.scores, pred_classes=classes)


@contextmanager
def replaced(model: nn.Module) -> Iterator[None]:
    """Let label_images have the stub, and one sample for all images."""
    cfg, sample = GRAMMAR.config(), {"image": torch.zeros(3, 8, 8), "height": 480, "width": 640}
    cfg.MODEL.DEVICE, cfg.DATALOADER.NUM_WORKERS = "cpu", 0
    before = labeling.load_trained, labeling._read
    labeling.load_trained = lambda *_: Trained(cfg, model, CLASSES)
    labeling._read = lambda cfgs, file: ([sample], (8, 8))
    try:
        yield
    finally:
        labeling.load_trained, labeling._read = before


def main() -> None:
    """Print what labeling so many images takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--labeled", type=int, default=0, metavar="N", help="so many have labels already, by --resume")
    args = parser.parse_args()
    count = args.images
    with tempfile.TemporaryDirectory() as place:
        images, output = Path(place, "images"), Path(place, "labels")
        _link(images, count)
        model = Stub()
        start, before = time.perf_counter(), _megabytes()
        found = list_images([str(images)])
        listed = time.perf_counter() - start
        job = Labeling([Weights("stub", "stub", True)], found, output, sheet=True, resume=True)
        _label(job, args.labeled, model)
        with replaced(model):
            labeling.label_images(job)
        size = (output / "annotations.json").stat().st_size / 2**20
    took, cpu = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    print(f"{count} images: listed in {listed:.1f} s, the first one seen after {model.started - start:.1f} s")
    print(f"{took:.0f} s in all; CPU {1000 * (cpu.ru_utime + cpu.ru_stime) / count:.2f} ms an image, imports included")
    print(f"most memory: {_megabytes() - before:.0f} MB more than before; annotations.json has {size:.0f} MB")


def _label(job: Labeling, count: int, model: Stub) -> None:
    """Write the shards that have the first images, all with the content of the first one."""
    shards = begin(job, lambda: np.full(len(CLASSES), 0.5))
    sample = {"image": torch.zeros(3, 8, 8), "height": 480, "width": 640}
    file = str(next(iter(job.images.values())))
    items = [Item(number, "", file, [sample]) for number in range(shards.size)]
    teacher = Trained(GRAMMAR.config(), model, CLASSES)
    images = labeling._see([teacher], [], np.arange(len(CLASSES)), shards.least, items)
    for shard in range(count // shards.size):
        shards.write(shard, {"images": images, "unreadable": [], "seconds": 0.0})
    model.started = 0.0


def _link(folder: Path, count: int) -> None:
    """Make so many image files, which share their content."""
    for number in range(count):
        place = folder / f"{number // 1000:04}"
        if number % 1000 == 0:
            place.mkdir(parents=True)
        source = folder / f"{number // LINKS}.bytes"
        if number % LINKS == 0:
            with source.open("wb") as file:
                Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "PNG")
        os.link(source, place / f"{number:08}.png")


def _megabytes() -> float:
    """Return the most memory that this process has had."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
