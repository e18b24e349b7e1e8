"""Detectron2's evaluators, without what they remember of evaluations before; finding nothing is an AP of 0."""

import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    COCOEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
)
from detectron2.evaluation.lvis_evaluation import _evaluate_predictions_on_lvis
from detectron2.evaluation.pascal_voc_evaluation import parse_rec
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pycocotools.mask import encode

from densedist.det.data.coco import Coco, Entry
from densedist.det.data.masks import box_as_mask
from densedist.det.data.registering import ground_truth

logger = logging.getLogger(__name__)
COCO_MOST, LVIS_MOST = 100, 300  # detections of an image that the rules score
UNLIMITED = 10**6


@contextmanager
def _with(module: Any, **values: Any) -> Iterator[None]:
    """A module has these values within the block."""
    before = {name: vars(module)[name] for name in values if name in vars(module)}
    vars(module).update(values)
    try:
        yield
    finally:
        for name in values:
            del vars(module)[name]
        vars(module).update(before)


def _of_nothing(cfg: CfgNode) -> list[str]:
    """What is scored where no prediction tells."""
    return ["bbox", *(["segm"] if cfg.MODEL.MASK_ON else [])]


class CocoEvaluator(COCOEvaluator):
    """Detectron2's, on normalized ground truth that is never an old copy; finding nothing is an AP of 0.

    Args:
        name: a data set, in any form.
        output: folder for predictions, and for the ground truth where it is not in COCO form.
        images: ids of those that count; None = all.
        tasks: as Detectron2's.
    """

    def __init__(
        self, cfg: CfgNode, name: str, output: str, images: Sequence[Any] | None = None, tasks: tuple[str, ...] = ()
    ) -> None:
        meta, coco = MetadataCatalog.get(name), ground_truth(name)
        other_form = not meta.get("json_file") or (meta.get("evaluator_type") or "coco") != "coco"
        sigmas = cfg.TEST.KEYPOINT_OKS_SIGMAS
        with _converted(meta) if other_form else nullcontext() if coco is None else _unread(meta):
            super().__init__(
                name,
                tasks or None,
                output_dir=output,
                max_dets_per_image=most_detections(cfg, COCO_MOST),
                kpt_oks_sigmas=sigmas,
                allow_cached_coco=False,
            )
        if coco is not None:
            self._coco_api, self._do_evaluation = _pycocotools(coco), coco.has_labels
        else:
            _fill_crowds(self._coco_api)
        self._images = images
        self._usual = [*_of_nothing(cfg), *(["keypoints"] if cfg.MODEL.KEYPOINT_ON else [])]

    def evaluate(self) -> Any:
        return super().evaluate(self._images)

    def _tasks_from_predictions(self, predictions: list[dict]) -> list[str]:
        return super()._tasks_from_predictions(predictions) if predictions else self._usual

    def _derive_coco_results(self, coco_eval: COCOeval | None, iou_type: str, class_names: Any = None) -> dict:
        if coco_eval is None:  # Detectron2 knows no score for it; pycocotools does
            coco_eval = _found_nothing(self._coco_api, iou_type, self._images)
        return super()._derive_coco_results(coco_eval, iou_type, class_names)


def most_detections(cfg: CfgNode, usual: int) -> int | None:
    """How many detections of an image are scored, where the config wants more than is usual by the rules; else None."""
    most = cfg.TEST.DETECTIONS_PER_IMAGE
    if 0 <= most <= usual:
        return None
    logger.info(f"scored are {most if most > 0 else 'all'} detections of an image, not {usual}, as the rules have it")
    return most if most > 0 else UNLIMITED


def _fill_crowds(api: COCO) -> None:
    """Without a mask pycocotools cannot score masks against a crowd."""
    for annotation in api.dataset.get("annotations", []):
        if annotation.get("iscrowd") and not annotation.get("segmentation"):
            annotation["segmentation"] = box_as_mask(annotation["bbox"])


@contextmanager
def _converted(meta: Metadata) -> Iterator[None]:
    """COCOEvaluator converts the data set within the block, and what it enters as the set's own file is taken out."""
    own = vars(meta).pop("json_file", None)
    try:
        yield
    finally:
        vars(meta).pop("json_file", None)
        if own:
            meta.json_file = own


@contextmanager
def _unread(meta: Metadata) -> Iterator[None]:
    """The data set's file is an empty one within the block, as its own may be more than pycocotools can read."""
    own = meta.json_file
    with tempfile.NamedTemporaryFile("w", suffix=".json") as empty:
        empty.write('{"images": [], "annotations": [], "categories": []}')
        empty.flush()
        del meta.json_file
        meta.json_file = empty.name
        try:
            yield
        finally:
            del meta.json_file
            meta.json_file = own


def _pycocotools(coco: Coco) -> COCO:
    with redirect_stdout(StringIO()):
        api = COCO()
        api.dataset = {"images": coco.images, "annotations": coco.annotations, "categories": coco.categories}
        api.createIndex()
    return api


def _found_nothing(truth: COCO, iou_type: str, images: Sequence[Any] | None) -> COCOeval:
    """What COCO's rules make of no predictions."""
    with redirect_stdout(StringIO()):
        nothing = COCO()
        nothing.dataset = truth.dataset | {"annotations": []}
        nothing.createIndex()
        found = COCOeval(truth, nothing, iou_type)
        if images is not None:
            found.params.imgIds = list(images)
        found.evaluate()
        found.accumulate()
        found.summarize()
    return found


class LvisEvaluator(LVISEvaluator):
    """Detectron2's; what is undefined is not a number, and not -100.

    Args:
        name: a data set of LVIS' form.
        output: folder for predictions.
    """

    def __init__(self, cfg: CfgNode, name: str, output: str) -> None:
        super().__init__(name, output_dir=output, max_dets_per_image=most_detections(cfg, LVIS_MOST))
        self._usual = _of_nothing(cfg)

    def _tasks_from_predictions(self, predictions: list[dict]) -> Sequence[str]:
        return super()._tasks_from_predictions(predictions) if predictions else self._usual

    def _eval_predictions(self, predictions: list[dict]) -> None:
        with _with(np, float=float):  # which lvis 0.5 asks for and NumPy has dropped
            super()._eval_predictions(predictions)
            if not any(prediction["instances"] for prediction in predictions):
                for task in self._results:
                    self._results[task] = _evaluate_predictions_on_lvis(self._lvis_api, [self._miss()], task)
        for task, numbers in self._results.items():
            self._results[task] = {name: math.nan if value < 0 else value for name, value in numbers.items()}

    def _miss(self) -> dict[str, Any]:
        """One prediction without area, which overlaps no object: LVIS' own code cannot score none at all."""
        image = self._lvis_api.load_imgs(self._lvis_api.get_img_ids()[:1])[0]
        mask = encode(np.zeros((image["height"], image["width"]), np.uint8, order="F"))
        where = {"image_id": image["id"], "category_id": self._lvis_api.get_cat_ids()[0]}
        return where | {"bbox": [0.0, 0.0, 0.0, 0.0], "segmentation": mask, "score": 0.0}


class CityscapesEvaluator(CityscapesInstanceEvaluator):
    """Detectron2's, which scores all images or none.

    Args:
        name: a data set of Cityscapes' form.
        whole: whether predictions come for all of its images.
    """

    def __init__(self, name: str, whole: bool) -> None:
        super().__init__(name)
        self._whole = whole

    def evaluate(self) -> Any:
        if self._whole:
            official = import_module("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
            # It asks for a name that NumPy has dropped, and writes matches.json to the current folder, or fails to.
            with _with(np, in1d=np.isin), _with(official, writeDict2JSON=lambda *_: None):
                return super().evaluate()
        comm.synchronize()  # nobody takes the files away while another one writes
        self._working_dir.cleanup()  # cityscapesscripts ends the process where a prediction is missing
        return {}


SPLIT = "scored"


class VocEvaluator(PascalVOCDetectionEvaluator):
    """Detectron2's, on annotations that are read anew; a class without objects counts 0, whatever is found of it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        parse_rec.cache_clear()
        images = Path(self._image_set_path).read_text().splitlines()
        objects = (a for image in images for a in parse_rec(self._anno_file_template.format(image.strip())))
        there = {a["name"] for a in objects if not a["difficult"]}
        self._absent = [number for number, kind in enumerate(self._class_names) if kind not in there]

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        super().process(inputs, outputs)
        for number in self._absent:  # whose recall would be 0 / 0, and the mean over all classes as well
            self._predictions.pop(number, None)


class VocRules(VocEvaluator):
    """VOC's rules for a data set in COCO form: its crowds are difficult objects, its boxes whole pixels.

    Args:
        name: the data set.
        coco: its ground truth.
        year: 2007 (eleven points of recall) or 2012 (all of them).
        images: ids of those that count; None = all.
    """

    def __init__(self, name: str, coco: Coco, year: int, images: Sequence[Any] | None = None) -> None:
        kept = None if images is None else set(images)
        self._files = tempfile.TemporaryDirectory(prefix="voc_rules_")
        written = [image["id"] for image in coco.images if kept is None or image["id"] in kept]
        _write(coco, written, Path(self._files.name))
        with _known(self._files.name, year, coco.names) as written_set:
            super().__init__(written_set)
        self._dataset_name, self._written = name, frozenset(written)

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        pairs = [pair for pair in zip(inputs, outputs, strict=True) if pair[0]["image_id"] in self._written]
        super().process([sample for sample, _ in pairs], [output for _, output in pairs])


@contextmanager
def _known(folder: str, year: int, classes: Sequence[str]) -> Iterator[str]:
    """The name of a folder in VOC's form, which Detectron2 knows within the block."""
    MetadataCatalog.get(folder).set(dirname=folder, split=SPLIT, year=year, thing_classes=list(classes))
    try:
        yield folder
    finally:
        MetadataCatalog.remove(folder)


def _write(coco: Coco, images: Sequence[int], folder: Path) -> None:
    """Annotations and the list of images, named by their ids."""
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
