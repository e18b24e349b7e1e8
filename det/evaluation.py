"""Scores on the data sets of DATASETS.TEST, each by its own rules, or by those that TEST.RULES says."""

import logging
import math
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from torch import nn

from densedist.common.engine.ending import on_the_way
from densedist.common.errors import UserError
from densedist.common.modules import eval_mode
from densedist.common.task import Results, evaluate_each, metric_of_first, refuse_twins
from densedist.det.data.registering import ground_truth
from densedist.det.evaluators import CityscapesEvaluator, VocEvaluator, VocRules, coco_evaluator, lvis_evaluator
from densedist.det.loader import test_dicts, test_loader
from densedist.det.modeling.augmented import augmented

logger = logging.getLogger(__name__)
OWN = "own"
RULES = ("coco", "lvis", "pascal_voc", "cityscapes_instance")  # Detectron2's words for those of a data set


def evaluate(cfg: CfgNode, model: nn.Module, most: int | None = None) -> Results:
    """Return AP in percent, over all and for each class, on every data set of DATASETS.TEST, by its rules.

    With TEST.AUG.ENABLED "bbox_TTA" and so on have the same with test-time augmentation, but on the way of a run.

    {"bbox": {"AP": …, "AP50": …, "AP-<class>": …}, "segm": … with a mask head}; by data set if there are several.
    Empty on all processes but the main one.

    Args:
        most: only so many images of each data set, from the first.
    """
    return evaluate_each(cfg.DATASETS.TEST, lambda name: _evaluate(cfg, model, name, most))


def _evaluate(cfg: CfgNode, model: nn.Module, name: str, most: int | None) -> Results:
    dicts = test_dicts(cfg, name)[:most]
    images = None if most is None else [d["image_id"] for d in dicts]
    with eval_mode(model):
        results = inference_on_dataset(model, test_loader(cfg, dicts), _evaluator(cfg, name, images)) or {}
        if cfg.TEST.AUG.ENABLED and not on_the_way(cfg):  # as Detectron2's tools do
            evaluator = _evaluator(cfg, name, images, "inference_TTA")
            found = inference_on_dataset(augmented(cfg, model), test_loader(cfg, dicts), evaluator) or {}
            results |= {f"{kind}_TTA": scores for kind, scores in found.items()}
    if comm.is_main_process():
        logger.info(f"results on {name}, in csv format:")
        print_csv_format(results)
    return results


def _evaluator(
    cfg: CfgNode, name: str, images: Sequence[Any] | None, folder: str = "inference"
) -> DatasetEvaluator | None:
    """Build the evaluator of a data set's rules; None where these cannot score some images alone."""
    # Each has a folder of its own, as all write files of the same names.
    output = f"{cfg.OUTPUT_DIR}/{folder}" + (f"/{name}" if len(cfg.DATASETS.TEST) > 1 else "")
    rules = _rules(name)
    if cfg.TEST.RULES != OWN and (coco := ground_truth(name)) is not None:
        return VocRules(name, coco, int(cfg.TEST.RULES.removeprefix("voc")), images)
    if rules == "pascal_voc":
        return VocEvaluator(name)
    if rules == "cityscapes_instance":
        return CityscapesEvaluator(name) if images is None else None
    if rules == "lvis":
        return lvis_evaluator(cfg, name, output)
    return coco_evaluator(cfg, name, output, images)


def metric(cfg: CfgNode) -> str:
    """Return the name of the metric that the best model is chosen by: AP of boxes, or what the first set scores."""
    if not cfg.DATASETS.TEST:
        return "bbox/AP"
    scored = "segm" if _rules(cfg.DATASETS.TEST[0]) == "cityscapes_instance" else "bbox"
    return metric_of_first(cfg.DATASETS.TEST, f"{scored}/AP")


def check_rules(cfg: CfgNode) -> None:
    """Make sure that the data sets of DATASETS.TEST can be scored by their own rules.

    Raises:
        UserError: naming the data set, and why not.
    """
    refuse_twins(cfg.DATASETS.TEST)
    for name in cfg.DATASETS.TEST:
        rules, source = _rules(name), f"DATASETS.TEST: data set {name}"
        if cfg.TEST.RULES != OWN and (ground_truth(name) is None or cfg.MODEL.MASK_ON or cfg.MODEL.KEYPOINT_ON):
            raise UserError(
                f"TEST.RULES is {cfg.TEST.RULES}, which is for boxes of your own data sets, not for {name} or "
                f"masks: set it to {OWN}"
            )
        if rules not in RULES:
            raise UserError(f"{source} is scored by the rules {rules}, but want one of {', '.join(RULES)}")
        if rules == "cityscapes_instance" and not cfg.MODEL.MASK_ON:
            raise UserError(f"{source} is scored by its masks: set MODEL.MASK_ON to True, or take another data set")
        if rules == "cityscapes_instance" and comm.get_local_size() < comm.get_world_size():
            raise UserError(f"{source} is scored by rules that work on one machine only: give --num-machines 1")
        coco = ground_truth(name)
        if coco is not None and coco.renumbered and not MetadataCatalog.get(name).get("normalized"):
            raise UserError(
                f"{source}: ids of images or categories in {coco.source} are not whole numbers, as pycocotools needs "
                "them: name it in DATASETS.COCO_FORMAT, which numbers them"
            )


def is_scored(cfg: CfgNode) -> bool:
    """Return whether there are test sets, and each of them has objects to be found.

    Raises:
        UserError: ground truth that cannot be read.
    """
    return bool(cfg.DATASETS.TEST) and all(_has_objects(name) for name in cfg.DATASETS.TEST)


def _has_objects(name: str) -> bool:
    if (coco := ground_truth(name)) is not None:
        return coco.object_count > 0
    annotations = (a for entry in DatasetCatalog.get(name) for a in entry.get("annotations", []))
    return any(not annotation.get("iscrowd") for annotation in annotations)


def _rules(name: str) -> str:
    return MetadataCatalog.get(name).get("evaluator_type") or "coco"


def average_precision(cfg: CfgNode, name: str, samples: Sequence[dict], outputs: Sequence[dict]) -> float:
    """Return COCO's AP of boxes in percent, on the samples alone; not a number where the data set has no annotations.

    Args:
        samples: of Detectron2's mapper.
        outputs: {"instances": …} for each, in pixels of its file.
    """
    evaluator = coco_evaluator(cfg, name, None, [sample["image_id"] for sample in samples], ("bbox",))
    evaluator.process(samples, outputs)
    results = evaluator.evaluate()
    return results["bbox"]["AP"] if results else math.nan
