"""A user's folder: data, a config, two teachers, code of his own; and what he may do to them between two commands.

Training, labeling and evaluation have stand-ins, which read all that the real ones read and come to a number that
depends on every bit of it, and on nothing else. So a number that belongs to other settings shows at once.
"""

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from detectron2.config import CfgNode

from densedist.common.distill.registry import LOSSES
from densedist.common.labeling import RECORD, Labeling
from densedist.common.task import Task
from densedist.det.task import TASK as DET
from densedist.seg.task import TASK as SEG
from helpers.tasks import with_methods

TASKS = {"det": DET, "seg": SEG}
METRIC = {"det": ("bbox", "AP"), "seg": ("sem_seg", "mIoU")}
# What training does not read: where files lie, what is drawn, who is told, how the work is shared out.
UNREAD = ("OUTPUT_DIR", "DATASETS", "TEST.EXAMPLES", "DATALOADER.NUM_WORKERS", "IMPORTS", "DISTILL", "TRUST_IMPORTS")
SAID = "DATALOADER.NUM_WORKERS"  # a key that changes no number, by which the stand-in for labels says what they hold
SIDES = ("train", "val", "pool")


class Workshop:
    """The files, in a folder that is empty.

    Args:
        task: "det" or "seg".
    """

    def __init__(self, root: Path, task: str) -> None:
        self.root, self.task, self.data = root, task, root / "data"
        for number, side in enumerate(SIDES):
            self._write_side(side, number)
        for name in ("teacher", "other"):
            (root / name).mkdir()
            (root / name / "config.yaml").write_text(yaml.safe_dump(self._teacher()))
            (root / name / "model_final.pth").write_bytes(name.encode())
        (root / "mine.py").write_text("WIDTH = 1\n")
        self.keys: dict[str, Any] = {"SOLVER.BASE_LR": 0.01, "SOLVER.MAX_ITER": 10, "DISTILL.DIST.TAU": 1.0}
        self.say()

    @property
    def config(self) -> str:
        return str(self.root / "student.yaml")

    @property
    def pool(self) -> str:
        """Images without labels."""
        return str(self.data / "pool" / "images")

    def say(self) -> None:
        """Write the student's config."""
        content: dict[str, Any] = {**copy.deepcopy(_USUAL[self.task]), "IMPORTS": ["mine.py"]}
        content["DATASETS"] = self._datasets()
        content["DISTILL"] = {"TEACHER": {"WEIGHTS": str(self.root / "teacher")}}
        for name, value in self.keys.items():
            node = content
            *above, last = name.split(".")
            for part in above:
                node = node.setdefault(part, {})
            node[last] = value
        Path(self.config).write_text(yaml.safe_dump(content))

    def _write_side(self, side: str, seed: int) -> None:
        images, masks = self.data / side / "images", self.data / side / "masks"
        images.mkdir(parents=True)
        masks.mkdir()
        rng = np.random.default_rng(seed)
        for number in range(3):
            cv2.imwrite(str(images / f"{number}.png"), rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
            cv2.imwrite(str(masks / f"{number}.png"), rng.integers(0, 2, (8, 8)).astype(np.uint8))
        boxes = {
            "images": [{"id": n, "file_name": f"{n}.png", "width": 8, "height": 8} for n in range(3)],
            "categories": [{"id": n, "name": name} for n, name in enumerate(_NAMES)],
            "annotations": [
                {"id": n + 1, "image_id": n, "category_id": n % 2, "bbox": [1, 1, 4, 5], "area": 20, "iscrowd": 0}
                for n in range(3)
            ],
        }
        (self.data / side / "boxes.json").write_text(json.dumps(boxes))

    def _datasets(self) -> dict[str, Any]:
        place = {side: self.data / side for side in SIDES}
        named = {"TRAIN": ["train"], "TEST": ["val"]}
        if self.task == "det":
            forms = [[side, str(where / "boxes.json"), str(where / "images")] for side, where in place.items()]
            return {"COCO_FORMAT": forms, **named}
        classes = [{"name": name, "ids": [n], "color": [n, n, n]} for n, name in enumerate(_NAMES)]
        folders = [[side, str(where / "images"), str(where / "masks")] for side, where in place.items()]
        return {"FOLDERS": folders, "CLASSES": classes, **named}

    def _teacher(self) -> dict[str, Any]:
        known = {"CLASSES": list(_NAMES)} if self.task == "det" else {"CLASSES": self._datasets()["CLASSES"]}
        return {**_USUAL[self.task], "DATASETS": known}


_NAMES = ("cat", "dog")
_USUAL: Mapping[str, dict[str, Any]] = {
    "det": {
        "MODEL": {"META_ARCHITECTURE": "DistillRCNN", "ROI_HEADS": {"NUM_CLASSES": 2}},
        "SOLVER": {"STEPS": []},
    },
    "seg": {"SOLVER": {"IMS_PER_BATCH": 2}},
}


# What a user does between two commands: changes after which other numbers are right, and others.


def _key(name: str, value: Any) -> Callable[[Workshop], None]:
    def change(shop: Workshop) -> None:
        shop.keys[name] = value
        shop.say()

    return change


def _bytes(file: str, content: bytes) -> Callable[[Workshop], None]:
    return lambda shop: (shop.root / file).write_bytes(content) and None


def _pixels(folder: str) -> Callable[[Workshop], None]:
    """Another picture of the same size and, as an unpacked archive has it, of the same time."""

    def change(shop: Workshop) -> None:
        file = shop.data / folder / "1.png"
        before, old = file.stat(), cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(file), 1 - old if folder.endswith("masks") else 255 - old)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    return change


def _other_boxes(side: str) -> Callable[[Workshop], None]:
    def change(shop: Workshop) -> None:
        file = shop.data / side / "boxes.json"
        file.write_text(file.read_text().replace("[1, 1, 4, 5]", "[2, 1, 4, 5]"))

    return change


def _moved(shop: Workshop) -> None:
    shop.data = shop.data.rename(shop.data.with_name(shop.data.name + "_moved"))
    shop.say()


def _copied(shop: Workshop) -> None:
    """All data anew, with other times."""
    there = shop.data.with_name("copy")
    shutil.copytree(shop.data, there)
    shutil.rmtree(shop.data)
    there.rename(shop.data)


def _remark(shop: Workshop) -> None:
    file = Path(shop.config)
    file.write_text(f"# a remark\n{file.read_text()}")


CHANGES: Mapping[str, Callable[[Workshop], None]] = {
    "another learning rate": _key("SOLVER.BASE_LR", 0.5),
    "another length": _key("SOLVER.MAX_ITER", 14),
    "another temperature": _key("DISTILL.DIST.TAU", 3.0),
    "another weight of a loss that is off": _key("DISTILL.CWD.TAU", 2.0),
    "another crop": _key("INPUT.RANDOM_FLIP", "none"),
    "the teacher trained anew": _bytes("teacher/model_final.pth", b"anew"),
    "another teacher in the same place": _bytes("teacher/model_final.pth", b"TEACHER"),
    "the other teacher trained anew": _bytes("other/model_final.pth", b"anew"),
    "other code": _bytes("mine.py", b"WIDTH = 2\n"),
    "another training image": _pixels("train/images"),
    "another test image": _pixels("val/images"),
    "another image without labels": _pixels("pool/images"),
    "other training labels": _pixels("train/masks"),
    "other test labels": _pixels("val/masks"),
    "other training boxes": _other_boxes("train"),
    "other test boxes": _other_boxes("val"),
}
HARMLESS: Mapping[str, Callable[[Workshop], None]] = {
    "the data moved": _moved,
    "the data copied": _copied,
    "a remark": _remark,
    "no examples drawn": _key("TEST.EXAMPLES", 1),
}


# The stand-ins.


def stand_in(task: str) -> Task:
    """The task, with stand-ins for all that needs a model."""

    def label(labeling: Labeling) -> None:
        if labeling.only_check:
            return
        labeling.begin()
        written = [digest_of(_contents(Path(labeling.teachers[0].file).parent)), str(labeling.score)]
        written += [hashlib.sha256(file.read_bytes()).hexdigest() for file in labeling.images.values()]
        record = labeling.record(["cat", "dog"], [0.0, 0.0], 2.0, [1, 1], len(labeling.images), 1.0)
        (labeling.output / "written.txt").write_text(digest_of(written))
        (labeling.output / RECORD).write_text(json.dumps(record))

    def with_labels(_: CfgNode, folder: Path) -> list[str]:
        return [SAID, str(int((folder / "written.txt").read_text()[:7], 16))]

    def evaluate(cfg: CfgNode, weights: Any) -> dict[str, Any]:
        group, metric = METRIC[task]
        seen = [Path(weights).read_bytes().hex(), *_side(cfg, "TEST"), *_keys(cfg, ("MODEL", "INPUT", "TEST"))]
        return {group: {metric: _percent(seen)}}

    return with_methods(
        TASKS[task],
        build=lambda _: None,
        label=label,
        with_labels=with_labels,
        load_model=lambda _, weights, __: weights,
        evaluate=evaluate,
    )


def train(cfg: CfgNode, task: Task, resume: bool) -> None:
    """Write what a run leaves: an evaluation at its half and one at its end."""
    assert resume
    folder, (group, metric) = Path(cfg.OUTPUT_DIR), METRIC[task.name]
    folder.mkdir(parents=True, exist_ok=True)
    value, length = number(cfg), cfg.SOLVER.MAX_ITER
    lines = [
        {"iteration": length // 2 - 1, "train_seconds": 0.1 * length / 2, f"{group}/{metric}": value / 2},
        {"iteration": length - 1, "train_seconds": 0.1 * length},
        {"iteration": length, f"{group}/{metric}": value},
    ]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "results.json").write_text(json.dumps({group: {metric: value}}))
    (folder / "model_final.pth").write_bytes(str(value).encode())


def pace(_: Task, cfgs: Mapping[str, CfgNode]) -> dict[str, float]:
    """Seconds an iteration, which depend on the method alone."""
    return {method: 0.1 * (1 + method.count("dist") + method.count("kd")) for method in cfgs}


def number(cfg: CfgNode) -> float:
    """Return what training comes to."""
    read = [cfg.DATALOADER.NUM_WORKERS, *_keys(cfg), *_side(cfg, "TRAIN"), *_side(cfg, "TEST")]
    read += [Path(module).read_text() for module in cfg.IMPORTS]
    losses = [name for name in LOSSES if cfg.DISTILL[name].WEIGHT > 0]
    if losses and cfg.DISTILL.TEACHER.WEIGHTS:
        read += [str(cfg.DISTILL[name]) for name in losses] + [cfg.DISTILL.WARMUP_ITERS, cfg.DISTILL.DECAY]
        read += [*_contents(Path(cfg.DISTILL.TEACHER.WEIGHTS).parent), *_side(cfg, "UNLABELED")]
    return _percent(read)


def digest_of(read: Iterable[Any]) -> str:
    return hashlib.sha256("\n".join(map(str, read)).encode()).hexdigest()


def _percent(read: Iterable[Any]) -> float:
    return round(int(digest_of(read)[:8], 16) / 16**8 * 100, 6)


def _keys(cfg: CfgNode, only: tuple[str, ...] = (), above: str = "") -> Iterator[str]:
    for name, value in cfg.items():
        path = f"{above}{name}"
        if path in UNREAD or (only and not path.startswith(only)):
            continue
        if isinstance(value, CfgNode):
            yield from _keys(value, only, f"{path}.")
        else:
            yield f"{path} {value}"


def _side(cfg: CfgNode, side: str) -> Iterator[str]:
    """What the files of a side hold; a side without labels is one of images alone."""
    places = {entry[0]: entry[1:] for key in ("FOLDERS", "COCO_FORMAT") for entry in cfg.DATASETS.get(key, [])}
    for name in cfg.DATASETS[side]:
        images = str(Path(places[name][-1 if "boxes.json" in places[name][0] else 0])) if name in places else name
        files = [images] if side == "UNLABELED" else [images, *places[name]]
        for file in files:
            yield from _contents(Path(file))


def _contents(place: Path) -> Iterator[str]:
    files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
    for file in files:
        yield f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}"
