"""What the splits of a segmentation config hold, and ten images of them with their labels."""

from collections import Counter
from pathlib import Path

from detectron2.config import CfgNode

from densedist.common.data.headers import read_header
from densedist.common.data.images import evenly
from densedist.common.data.survey import Survey
from densedist.common.report.panels import Panel, draw_in_lines
from densedist.seg.data.counting import count_pixels
from densedist.seg.data.reading import Reader
from densedist.seg.data.sides import SIDES
from densedist.seg.drawing import class_legend, overlay, to_rgb
from densedist.seg.labels import IGNORE, Classes

IGNORED = "(ignored)"


def survey(cfg: CfgNode, side: str) -> Survey:
    """Of DATASETS.TRAIN, UNLABELED or TEST; all labels are read."""
    frames, classes = SIDES[side](cfg), Classes.of(cfg)
    read = Reader(classes, cfg.INPUT.FORMAT)
    sizes = Counter(read_header(frame["image"]).size for frame in frames)
    labeled = [frame for frame in frames if frame["label"]]
    total = count_pixels(read, labeled, side).sum(0)
    pixels = {name: int(total[number]) for number, name in enumerate(classes.names)} | {IGNORED: int(total[IGNORE])}
    return Survey(side, sizes, len(labeled), pixels, "pixels")


def draw_data(cfg: CfgNode, side: str, count: int, file: Path) -> None:
    """Draw images, spread over a side of DATASETS, and their labels over them."""
    classes = Classes.of(cfg)
    read, columns, ignored = Reader(classes, cfg.INPUT.FORMAT), [], False
    for frame in evenly(SIDES[side](cfg), count):
        sample = read(frame)
        image = to_rgb(sample["image"], cfg.INPUT.FORMAT)
        panels = [Panel(image, frame["name"])]
        if "sem_seg" in sample:
            labels = sample["sem_seg"].numpy()
            panels.append(Panel(overlay(image, labels, classes.colors), "labels"))
            ignored = ignored or bool((labels == IGNORE).any())
        columns.append(panels)
    draw_in_lines(columns, class_legend(classes.names, classes.colors, ignored), f"DATASETS.{side}", file)
