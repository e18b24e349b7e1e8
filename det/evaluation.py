"""Scores on the data sets of DATASETS.TEST, each by its own rules."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog, build_detection_test_loader
from detectron2.data.build import _test_loader_from_config
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    COCOEvaluator,
    DatasetEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
    inference_on_dataset,
    print_csv_format,
)
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from densedist.common.errors import UserError
from densedist.common.task import Results
from densedist.det.data.coco import Coco
from densedist.det.data.sets import ground_truth

logger = logging.getLogger(__name__)
# Detectron2's words for the rules of a data set, and the package that has them.
RULES: Mapping[str, str] = {
    "coco": "pycocotools",
    "lvis": "lvis",
    "pascal_voc": "detectron2",
    "cityscapes_instance": "cityscapesscripts",
}


def evaluate(cfg: CfgNode, model: nn.Module, most: int | None = None) -> Results:
    """AP in percent, over all and for each class, on every data set of DATASETS.TEST, by its own rules.

    {"bbox": {"AP": …, "AP50": …, "AP-<class>": …}, "segm": … with a mask head}; by data set if there are several.
    Empty on all processes but the main one.

    Args:
        most: only so many images of each data set, from the first.
    """
    results = {name: _evaluate(cfg, model, name, most) for name in cfg.DATASETS.TEST}
    return next(iter(results.values())) if len(results) == 1 else results


def _evaluate(cfg: CfgNode, model: nn.Module, name: str, most: int | None) -> Results:
    parts = _test_loader_from_config(cfg, name)
    dicts = parts["dataset"][:most]
    loader = build_detection_test_loader(dicts, mapper=parts["mapper"], num_workers=parts["num_workers"])
    images = None if most is None else [d["image_id"] for d in dicts]
    results = inference_on_dataset(model, loader, _evaluator(cfg, name, images)) or {}
    if comm.is_main_process():
        logger.info(f"results on {name}, in csv format:")
        print_csv_format(results)
    return results


def _evaluator(cfg: CfgNode, name: str, images: Sequence[Any] | None) -> DatasetEvaluator:
    output = f"{cfg.OUTPUT_DIR}/inference"
    rules = _rules(name)
    if rules == "pascal_voc":
        return PascalVOCDetectionEvaluator(name)
    if rules == "cityscapes_instance":
        return CityscapesInstanceEvaluator(name)
    if rules == "lvis":
        return LVISEvaluator(name, output_dir=output)
    return CocoEvaluator(cfg, name, output, images)


def metric(cfg: CfgNode) -> str:
    """What the best model is chosen by: the first test set's AP of boxes, or of what its rules score instead."""
    if not cfg.DATASETS.TEST:
        return "bbox/AP"
    first, *others = cfg.DATASETS.TEST
    scored = "segm" if _rules(first) == "cityscapes_instance" else "bbox"
    return f"{first}/{scored}/AP" if others else f"{scored}/AP"


def check_rules(cfg: CfgNode, side: str) -> None:
    """Make sure that the data sets of DATASETS.<side> can be read and, of TEST, scored by their own rules.

    Raises:
        UserError: naming the data set, and the package that is missing or the rules that are not supported.
    """
    for name in cfg.DATASETS[side]:
        rules, source = _rules(name), f"DATASETS.{side}: data set {name}"
        if (package := RULES.get(rules)) and find_spec(package) is None:
            raise UserError(f"{source} needs the package {package}: install it, or take another data set")
        if side != "TEST":
            continue
        if rules not in RULES:
            raise UserError(f"{source} is scored by the rules {rules}, and here are only those of {', '.join(RULES)}")
        if rules == "cityscapes_instance" and not cfg.MODEL.MASK_ON:
            raise UserError(f"{source} is scored by its masks: set MODEL.MASK_ON to True, or take another data set")
        coco = ground_truth(name)
        if coco is not None and coco.renumbered and not MetadataCatalog.get(name).get("normalized"):
            raise UserError(
                f"{source}: ids of images or categories in {coco.source} are no whole numbers, as pycocotools needs "
                "them: name it in DATASETS.COCO_FORMAT, where they are counted"
            )


def is_scored(cfg: CfgNode) -> bool:
    """Whether each data set of DATASETS.TEST has objects to be found; there must be one.

    Raises:
        UserError: ground truth that cannot be read.
    """
    known = [ground_truth(name) for name in cfg.DATASETS.TEST]
    return bool(known) and all(coco is None or coco.objects for coco in known)


def _rules(name: str) -> str:
    return MetadataCatalog.get(name).get("evaluator_type") or "coco"


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
        converted = not meta.get("json_file")
        sigmas = cfg.TEST.KEYPOINT_OKS_SIGMAS
        with nullcontext() if coco is None else _unread(meta):
            super().__init__(name, tasks or None, output_dir=output, kpt_oks_sigmas=sigmas, allow_cached_coco=False)
        if converted:
            del meta.json_file  # or the next evaluation would take the copy for the data set's own file
        if coco is not None:
            self._coco_api, self._do_evaluation = _pycocotools(coco), coco.has_labels
        self._images = images
        self._of_nothing = {"bbox", *(["segm"] if cfg.MODEL.MASK_ON else [])}

    def evaluate(self, img_ids: Sequence[Any] | None = None) -> Any:
        return super().evaluate(self._images if img_ids is None else img_ids)

    def _tasks_from_predictions(self, predictions: list[dict]) -> list[str]:
        return super()._tasks_from_predictions(predictions) if predictions else sorted(self._of_nothing)

    def _derive_coco_results(self, coco_eval: COCOeval | None, iou_type: str, class_names: Any = None) -> dict:
        if coco_eval is None:  # Detectron2 knows no score for it; pycocotools does
            coco_eval = _found_nothing(self._coco_api, iou_type)
        return super()._derive_coco_results(coco_eval, iou_type, class_names)


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


def _found_nothing(truth: COCO, iou_type: str) -> COCOeval:
    """What COCO's rules make of no predictions."""
    with redirect_stdout(StringIO()):
        nothing = COCO()
        nothing.dataset = truth.dataset | {"annotations": []}
        nothing.createIndex()
        found = COCOeval(truth, nothing, iou_type)
        found.evaluate()
        found.accumulate()
        found.summarize()
    return found


def average_precision(cfg: CfgNode, name: str, samples: Sequence[dict], outputs: Sequence[dict]) -> float:
    """COCO's AP of boxes in percent, on the samples alone.

    Args:
        samples: of Detectron2's mapper.
        outputs: {"instances": …} for each, in pixels of its file.
    """
    with tempfile.TemporaryDirectory() as folder:
        evaluator = CocoEvaluator(cfg, name, folder, tasks=("bbox",))
        evaluator.reset()
        evaluator.process(list(samples), list(outputs))
        return evaluator.evaluate([sample["image_id"] for sample in samples])["bbox"]["AP"]
