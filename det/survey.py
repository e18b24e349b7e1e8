"""What a detector's data sets hold, and ten images of them with their objects."""

from collections import Counter
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from densedist.common.data.survey import Survey
from densedist.common.report.panels import draw_in_lines
from densedist.det.data.sets import class_labels
from densedist.det.pictures import truth
from densedist.det.samples import spread_samples


def survey(cfg: CfgNode, side: str) -> Survey:
    """Of DATASETS.TRAIN, UNLABELED or TEST, whose data sets are registered; crowds are no objects."""
    sizes: Counter[tuple[int, int]] = Counter()
    counts: Counter[int] = Counter()
    labeled = 0
    for name in cfg.DATASETS[side]:
        for entry in DatasetCatalog.get(name):
            sizes[entry["height"], entry["width"]] += 1
            objects = [a["category_id"] for a in entry.get("annotations", []) if not a.get("iscrowd")]
            labeled += "annotations" in entry and bool(MetadataCatalog.get(name).get("thing_classes"))
            counts.update(objects)
    return Survey(side, sizes, labeled, {name: counts[n] for n, name in enumerate(class_labels(cfg))}, "objects")


def draw_data(cfg: CfgNode, side: str, count: int, file: Path) -> None:
    """Draw images, spread over a side of DATASETS, with their objects."""
    names = class_labels(cfg)
    draw_in_lines([truth(cfg, s, names) for s in spread_samples(cfg, count, side)], [], f"DATASETS.{side}", file)
