"""What lies between a config and the first batch, on data of COCO's size: stock Detectron2 and ours taking turns."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.utils import comm
from PIL import Image

from densedist.common.profile import report

IMAGES = 118_287  # of COCO's train2017
VAL = 24  # images for each one of val2017
BOXES = 7  # of an image, as there
CROWDS = 100  # boxes for each crowd, which has run lengths
POINTS = 12  # of a polygon
SIZES = ((480, 640), (640, 480), (426, 640), (375, 500), (500, 375), (427, 640))
LINKS = 20_000  # of a file; file systems have limits
CONFIG = "det/coco/faster_rcnn_r50.yaml"
NAMED, BUILT_IN = "in DATASETS.COCO_FORMAT", "coco_2017_train"
WORDS = sys.executable, "-m", "benchmarks.det.start"
STOCK, OURS, AGAIN = "stock", "ours, first start", "ours, second start"


@dataclass(frozen=True)
class Result:
    """What lies between a config and the first batch.

    Args:
        name: who, and how the data set is named.
        seconds: on the clock.
        cpu_seconds: of the processor, in all threads.
        peak: bytes of the process at most, with what it has imported; of several processes of the one with most.
        held: bytes of all processes with the first batch; what they share counts once.
    """

    name: str
    seconds: float
    cpu_seconds: float
    peak: int
    held: int


def main(file: Path | None, images: int = IMAGES, processes: int = 1) -> None:
    """Make the data in a temporary folder, measure and print; write everything to file as JSON.

    Args:
        images: how many train2017 is to have.
        processes: that start at once, as those of one machine do.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="start_", dir=os.environ.get("TMPDIR")) as folder:
        root = Path(folder)
        print(f"writing {images} images and {images * BOXES} boxes", flush=True)
        write_coco(root, images)
        print(f"{time.monotonic() - began:.0f} s", flush=True)
        results = measure(root, processes)
    title = f"Start: {images} images, {images * BOXES} boxes, and a test set of {max(images // VAL, 1)} images"
    report(title, table(results), [asdict(one) for one in results], torch.device("cpu"), file)


def measure(root: Path, processes: int = 1) -> list[Result]:
    """Measure each start by itself, one after another, the first of each kind with an empty cache."""
    results = []
    for named in (NAMED, BUILT_IN):
        cache = root / "cache"
        environment = os.environ | {"DETECTRON2_DATASETS": str(root), "XDG_CACHE_HOME": str(cache)}
        for who in (STOCK, OURS, AGAIN):
            words = [*WORDS, "stock" if who == STOCK else "ours", named, str(root), str(processes)]
            ran = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            results.append(Result(f"{who}, {named}", **json.loads(ran.stdout.splitlines()[-1])))
            one = results[-1]
            print(f"{one.name}: {one.seconds:.1f} s, {one.cpu_seconds:.1f} of the processor", flush=True)
        shutil.rmtree(cache, ignore_errors=True)
    return results


def table(results: list[Result]) -> list[dict[str, str]]:
    """One line a start."""
    stock: dict[str, Result] = {}
    lines = []
    for one in results:
        who, _, named = one.name.rpartition(", ")
        if who == STOCK:
            stock[named] = one
        lines.append(
            {
                "start": one.name,
                "s": f"{one.seconds:.1f}",
                "CPU s": f"{one.cpu_seconds:.1f}",
                "CPU s / stock": f"{one.cpu_seconds / stock[named].cpu_seconds:.2f}",
                "peak, GB": f"{one.peak / 1e9:.2f}",
                "peak / stock": f"{one.peak / stock[named].peak:.2f}",
                "held by all, GB": f"{one.held / 1e9:.2f}",
            }
        )
    return lines


def write_coco(root: Path, images: int) -> None:
    """Write a data set in COCO's folders: images are links to few files, boxes and polygons are random."""
    for number, (split, count) in enumerate({"train2017": images, "val2017": max(images // VAL, 1)}.items()):
        _write_split(root / "coco", split, count, np.random.default_rng(number))


def _write_split(root: Path, split: str, count: int, rng: np.random.Generator) -> None:
    folder = root / split
    folder.mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    categories = [{"id": c["id"], "name": c["name"]} for c in COCO_CATEGORIES if c["isthing"]]
    ids = [category["id"] for category in categories]
    names = [f"{number:012}.jpg" for number in (np.arange(1, count + 1) * 5).tolist()]
    entries, files = [], {}
    for number, name in enumerate(names):
        kind = number % len(SIZES), number // LINKS
        if kind not in files:
            _draw(folder / name, SIZES[kind[0]], rng)
            files[kind] = folder / name
        else:
            os.link(files[kind], folder / name)
        entries.append(json.dumps(_image(number, name)))
    with (root / "annotations" / f"instances_{split}.json").open("w") as file:
        file.write(f'{{"info": {{}}, "images": [{", ".join(entries)}], "annotations": [')
        order = rng.permutation(np.repeat(np.arange(count), BOXES))
        for start in range(0, len(order), 10_000):
            part = order[start : start + 10_000].tolist()
            lines = _annotations(part, start, ids, rng)
            file.write((", " if start else "") + ", ".join(lines))
        file.write(f'], "categories": {json.dumps(categories)}}}')


def _image(number: int, name: str) -> dict[str, object]:
    height, width = SIZES[number % len(SIZES)]
    place = f"http://images.cocodataset.org/train2017/{name}"
    about = {"license": 3, "file_name": name, "coco_url": place, "height": height, "width": width}
    return about | {"date_captured": "2013-11-14 17:02:52", "flickr_url": place, "id": (number + 1) * 5}


def _annotations(images: list[int], start: int, ids: list[int], rng: np.random.Generator) -> list[str]:
    """Return the annotations from number `start` on, of these images."""
    sizes = np.array([SIZES[image % len(SIZES)] for image in images])[:, ::-1]
    corners = np.sort(rng.uniform(0.02, 0.98, (len(images), 2, 2)), 1) * sizes[:, None]
    spans = corners[:, 1] - corners[:, 0] + 1
    polygons = corners[:, :1] + rng.random((len(images), POINTS, 2)) * spans[:, None]
    boxes = np.concatenate([corners[:, 0], spans], 1).round(2).tolist()
    kinds = rng.integers(len(ids), size=len(images)).tolist()
    lines = []
    for at, (image, polygon) in enumerate(
        zip(images, polygons.round(2).reshape(len(images), -1).tolist(), strict=True)
    ):
        number, (width, height) = start + at, sizes[at].tolist()
        crowd = number % CROWDS == CROWDS - 1
        lengths = {"counts": [width, 2 * width, width * height - 3 * width], "size": [height, width]}
        entry = {"segmentation": lengths if crowd else [polygon], "area": round(boxes[at][2] * boxes[at][3] / 2, 2)}
        entry |= {"iscrowd": int(crowd), "image_id": (image + 1) * 5, "bbox": boxes[at]}
        lines.append(json.dumps(entry | {"category_id": ids[kinds[at]], "id": 100 + number}))
    return lines


def _draw(file: Path, size: tuple[int, int], rng: np.random.Generator) -> None:
    """Draw a soft picture: a small file."""
    small = Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8))
    small.resize(size[::-1], Image.Resampling.BICUBIC).save(file, quality=75)


def _keys(named: str, root: Path) -> list[str]:
    keys = ["DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "2", "MODEL.WEIGHTS", ""]
    if named == BUILT_IN:
        return keys
    sets = {f"my_{split}": split for split in ("train2017", "val2017")}
    places = root / "coco"
    entries = [[name, f"{places}/annotations/instances_{s}.json", f"{places}/{s}"] for name, s in sets.items()]
    one, other = sets
    return [
        *keys,
        "DATASETS.COCO_FORMAT",
        str(entries),
        "DATASETS.TRAIN",
        f"['{one}']",
        "DATASETS.TEST",
        f"['{other}']",
    ]


def stock(named: str, root: Path) -> tuple[object, object]:
    """Return Detectron2's batches, and the first one."""
    from detectron2.config import get_cfg
    from detectron2.data import build_detection_train_loader
    from detectron2.data.datasets import register_coco_instances

    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (BUILT_IN,)
    if named == NAMED:
        places = root / "coco"
        register_coco_instances(
            "my_train2017", {}, f"{places}/annotations/instances_train2017.json", f"{places}/train2017"
        )
        cfg.DATASETS.TRAIN = ("my_train2017",)
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS, cfg.SEED = 2, 0, 0
    batches = iter(build_detection_train_loader(cfg))
    return batches, next(batches)


def ours(named: str, root: Path) -> tuple[object, object]:
    """Return our batches, and the first one, after all that a run looks at before it."""
    from densedist.common.data.overlap import overlaps
    from densedist.common.randomness import RunPosition
    from densedist.det.task import TASK

    cfg = TASK.load_config(CONFIG, _keys(named, root))
    TASK.check_data(cfg)
    overlaps(cfg, TASK.images)
    batches = iter(TASK.training_batches(cfg)(RunPosition(0)))
    return batches, next(batches)


def used() -> float:
    """Return the seconds that this process and its children have had of the processor."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


def held() -> int:
    """Return the bytes of this process's memory; of what it shares with others, its part."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def figures(who: str, named: str, root: Path) -> Mapping[str, float]:
    """Measure one start in this process, without its imports; with the others of its group, if there is one."""

    import densedist.common.data.overlap
    import densedist.det.task  # noqa: F401

    comm.synchronize()
    start, cpu = time.perf_counter(), used()
    batches, batch = {"stock": stock, "ours": ours}[who](named, root)
    assert batch
    seconds, cpu = time.perf_counter() - start, used() - cpu
    comm.synchronize()  # all of them have their data
    peak, now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, held()
    comm.synchronize()
    del batches
    return {"seconds": seconds, "cpu_seconds": cpu, "peak": peak, "held": now}


def figures_of_all(who: str, named: str, root: Path, processes: int) -> Mapping[str, float]:
    """Measure as many starts at once, in processes of one machine that begin together.

    Returns:
        the seconds of the slowest, the largest peak, and the sum of the rest.
    """
    if processes == 1:
        return figures(who, named, root)
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(_join, (processes, who, named, root, Path(folder)), processes)
        lines = [json.loads(file.read_text()) for file in Path(folder).glob("*.json")]
    ways = {"seconds": max, "cpu_seconds": sum, "peak": max, "held": sum}
    return {name: way(line[name] for line in lines) for name, way in ways.items()}


def _join(rank: int, processes: int, who: str, named: str, root: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes)
    comm.create_local_process_group(processes)
    try:
        (folder / f"{rank}.json").write_text(json.dumps(figures(who, named, root)))
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    print(json.dumps(figures_of_all(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
