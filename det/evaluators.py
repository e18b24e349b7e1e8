"""Detectron2's evaluators, each for one kind of rules, on ground truth that is read anew for every evaluation.

What they lack is added around their public methods: finding nothing is an AP of 0, and no catalog is changed.
"""

import json
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    COCOEvaluator,
    DatasetEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
)
from detectron2.evaluation.pascal_voc_evaluation import parse_rec
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from densedist.det.config import DETECTRON2
from densedist.det.data.coco import Coco, Entry
from densedist.det.data.masks import box_as_mask
from densedist.det.data.registering import ground_truth

logger = logging.getLogger(__name__)
COCO_MOST, LVIS_MOST = 100, 300  # detections of an image that the rules score
UNLIMITED = 10**6
SPLIT = "scored"
# Scores in percent by task, as {"bbox": {"AP": …}}; None or empty on all processes but the main one.
Scores = dict[str, dict[str, float]] | None
# Builds one of Detectron2's evaluators, of (whether it gathers from all processes, where it writes; None = nowhere).
Make = Callable[[bool, str | None], Any]


class Evaluator(DatasetEvaluator):
    """One of Detectron2's evaluators, by which a model that finds nothing has an AP of 0; by itself it has none.

    Args:
        cfg: of the model.
        make: builds the evaluator.
        output: the folder for predictions; None = they are not written.
        scores: calls its evaluate().
    """

    def __init__(self, cfg: CfgNode, make: Make, output: str | None, scores: Callable[[Any], Scores]) -> None:
        self.cfg, self.make, self.scores = cfg, make, scores
        self.inner = make(True, output)
        self.reset()

    def reset(self) -> None:
        self.inner.reset()
        self.found = 0
        self.sample: dict[str, Any] = {}

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        self.inner.process(inputs, outputs)
        for sample, output in zip(inputs, outputs, strict=True):
            if "instances" in output:
                self.found += len(output["instances"])
                self.sample = {key: sample[key] for key in ("image_id", "height", "width")}

    def evaluate(self) -> Scores:
        results = self.scores(self.inner)
        if sum(comm.all_gather(self.found)) or not (results and self.sample):
            return results
        evaluator = self.make(False, None)
        evaluator.reset()
        evaluator.process([self.sample], [{"instances": _miss(self.cfg, self.sample)}])
        return results | (self.scores(evaluator) or {})


def _miss(cfg: CfgNode, sample: dict) -> Instances:
    """Return a detection without area: it overlaps no object, and is scored like none at all."""
    size = sample["height"], sample["width"]
    miss = Instances(size, pred_boxes=Boxes(torch.zeros(1, 4)), scores=torch.zeros(1), pred_classes=torch.tensor([0]))
    if cfg.MODEL.MASK_ON:
        miss.pred_masks = torch.zeros(1, *size, dtype=torch.bool)
    if cfg.MODEL.KEYPOINT_ON:
        count = len(cfg.TEST.KEYPOINT_OKS_SIGMAS) or cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
        miss.pred_keypoints = torch.zeros(1, count, 3)
    return miss


def coco_evaluator(
    cfg: CfgNode, name: str, output: str | None, images: Sequence[Any] | None = None, tasks: tuple[str, ...] = ()
) -> Evaluator:
    """Build an evaluator by COCO's rules, for a data set in any form.

    Args:
        output: the folder for predictions; None = they are not written.
        images: ids of those that count; None = all.
        tasks: any of bbox, segm, keypoints; empty = those that the predictions have. The masks of a detector that
            Detectron2 does not build are scored with MODEL.MASK_ON: the data may have boxes alone.
    """
    most = most_detections(cfg, COCO_MOST)
    if cfg.MODEL.get("KIND", DETECTRON2) != DETECTRON2 and not cfg.MODEL.MASK_ON:
        tasks = tasks or ("bbox",)

    def make(distributed: bool, folder: str | None) -> COCOEvaluator:
        with _with_json_file(name) as known:
            return COCOEvaluator(
                known,
                tasks or None,
                distributed,
                folder,
                max_dets_per_image=most,
                kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
            )

    return Evaluator(cfg, make, output, lambda evaluator: evaluator.evaluate(images))


@contextmanager
def _with_json_file(name: str) -> Iterator[str]:
    """Give the name under which a data set has its ground truth in a file that pycocotools can read, in the block."""
    meta, coco = MetadataCatalog.get(name), ground_truth(name)
    if coco is not None:
        content: dict[str, Any] = {"images": coco.images, "categories": coco.categories}
        content |= {"annotations": coco.annotations} if coco.has_labels else {}
    elif meta.get("json_file") and (meta.get("evaluator_type") or "coco") == "coco":
        yield name
        return
    else:
        content = convert_to_coco_dict(name)
        for annotation in content.get("annotations", []):
            if annotation.get("iscrowd") and not annotation.get("segmentation"):
                # Without a mask pycocotools cannot score masks against a crowd.
                annotation["segmentation"] = box_as_mask(annotation["bbox"])
    with tempfile.TemporaryDirectory(prefix="ground_truth_") as folder:
        file = Path(folder, "annotations.json")
        file.write_text(json.dumps(content))
        about = {key: meta.get(key) for key in ("thing_classes", "thing_dataset_id_to_contiguous_id") if meta.get(key)}
        MetadataCatalog.get(folder).set(json_file=str(file), **about)
        try:
            yield folder
        finally:
            MetadataCatalog.remove(folder)


def most_detections(cfg: CfgNode, usual: int) -> int | None:
    """Return how many detections of an image are scored, where the config wants more than the rules do; else None."""
    most = cfg.TEST.DETECTIONS_PER_IMAGE
    if 0 <= most <= usual:
        return None
    logger.info(f"{most if most > 0 else 'all'} detections of an image are scored; the standard rules score {usual}")
    return most if most > 0 else UNLIMITED


def lvis_evaluator(cfg: CfgNode, name: str, output: str) -> Evaluator:
    """Build an evaluator by LVIS' rules, for a data set in its form; what is undefined is not a number, not -100."""
    most = most_detections(cfg, LVIS_MOST)

    def make(distributed: bool, folder: str | None) -> LVISEvaluator:
        return LVISEvaluator(name, None, distributed, folder, max_dets_per_image=most)

    def scores(evaluator: LVISEvaluator) -> Scores:
        with _patched(np, float=float):  # lvis 0.5 asks for a name that NumPy 1.24 has dropped
            results = evaluator.evaluate() or {}
        return {task: {key: math.nan if x < 0 else x for key, x in found.items()} for task, found in results.items()}

    return Evaluator(cfg, make, output, scores)


class CityscapesEvaluator(CityscapesInstanceEvaluator):
    """Detectron2's, with a cityscapesscripts that works with this NumPy and leaves no file behind.

    It scores all images of a data set or none: cityscapesscripts ends the process where a prediction is missing.
    """

    def evaluate(self) -> Any:
        official = import_module("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
        # It asks for a name that NumPy 2.4 has dropped, and writes matches.json to the current folder, or fails to.
        with _patched(np, in1d=np.isin), _patched(official, writeDict2JSON=lambda *_: None):
            return super().evaluate()


@contextmanager
def _patched(module: Any, **values: Any) -> Iterator[None]:
    """Let names of a module have these values within the block."""
    before = {name: vars(module)[name] for name in values if name in vars(module)}
    vars(module).update(values)
    try:
        yield
    finally:
        for name in values:
            del vars(module)[name]
        vars(module).update(before)


class VocEvaluator(PascalVOCDetectionEvaluator):
    """Detectron2's, on annotations that are read anew; a class without objects counts 0, whatever is found of it.

    Args:
        name: a data set in VOC's format.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        parse_rec.cache_clear()
        meta = MetadataCatalog.get(name)
        root = Path(meta.dirname)
        images = (root / "ImageSets" / "Main" / f"{meta.split}.txt").read_text().split()
        objects = (a for image in images for a in parse_rec(str(root / "Annotations" / f"{image}.xml")))
        there = {a["name"] for a in objects if not a["difficult"]}
        self.present = torch.tensor([kind in there for kind in meta.thing_classes])

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Take predictions, but of classes without objects: their recall is 0 / 0, and so were the mean of all."""
        found = [output["instances"].to("cpu") for output in outputs]
        super().process(inputs, [{"instances": one[self.present[one.pred_classes]]} for one in found])


class VocRules(VocEvaluator):
    """VOC's rules for a data set in COCO format: its crowds are difficult objects, its boxes whole pixels.

    Args:
        name: the data set.
        coco: its ground truth.
        year: 2007 (eleven points of recall) or 2012 (all of them).
        images: ids of those that count; None = all.
    """

    def __init__(self, name: str, coco: Coco, year: int, images: Sequence[Any] | None = None) -> None:
        kept = None if images is None else set(images)
        self.files = tempfile.TemporaryDirectory(prefix="voc_rules_")  # kept until the evaluator is gone
        self.written = {image["id"]: None for image in coco.images if kept is None or image["id"] in kept}
        _write(coco, list(self.written), Path(self.files.name))
        known = f"{name} in {self.files.name}"
        about = {"dirname": self.files.name, "split": SPLIT, "year": year, "thing_classes": coco.names}
        MetadataCatalog.get(known).set(**about)
        try:
            super().__init__(known)
        finally:
            MetadataCatalog.remove(known)

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        pairs = [pair for pair in zip(inputs, outputs, strict=True) if pair[0]["image_id"] in self.written]
        super().process([sample for sample, _ in pairs], [output for _, output in pairs])


def _write(coco: Coco, images: Sequence[int], folder: Path) -> None:
    """Write annotations and the list of images, named by their ids."""
    objects: dict[int, list[Entry]] = {image: [] for image in images}
    for annotation in coco.annotations:
        if annotation["image_id"] in objects:
            objects[annotation["image_id"]].append(annotation)
    lists, annotations = folder / "ImageSets" / "Main", folder / "Annotations"
    lists.mkdir(parents=True)
    annotations.mkdir()
    (lists / f"{SPLIT}.txt").write_text("".join(f"{image}\n" for image in images))
    names = {category["id"]: category["name"] for category in coco.categories}
    for image, of_image in objects.items():
        root = ElementTree.Element("annotation")
        for annotation in of_image:
            _add(root, names[annotation["category_id"]], annotation)
        ElementTree.ElementTree(root).write(annotations / f"{image}.xml")


def _add(root: ElementTree.Element, name: str, annotation: Entry) -> None:
    x, y, width, height = annotation["bbox"]
    one = ElementTree.SubElement(root, "object")
    about = {"name": name, "pose": "Unspecified", "truncated": 0, "difficult": annotation["iscrowd"]}
    for key, value in about.items():
        ElementTree.SubElement(one, key).text = str(value)
    box = ElementTree.SubElement(one, "bndbox")
    # Pixels are counted from 1, and both corners belong to the box.
    for side, place in {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}.items():
        ElementTree.SubElement(box, side).text = str(round(place))
