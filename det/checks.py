"""A look at the data sets of a config before training, by one process for all."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import builtin

from densedist.common.data.images import check_image, check_images
from densedist.common.errors import UserError, on_main_process
from densedist.det.annotations import Coco, bad_boxes, check_references, read_coco

logger = logging.getLogger(__name__)
PREDEFINED = (builtin._PREDEFINED_SPLITS_COCO, builtin._PREDEFINED_SPLITS_LVIS)
BUILT_IN = frozenset(name for splits in PREDEFINED for group in splits.values() for name in group)


def check_data(cfg: CfgNode, *sides: str) -> None:
    """Make sure that annotations and files of DATASETS.TRAIN, UNLABELED and TEST, or of the given sides, are sound.

    Of the data sets that Detectron2 registers itself the annotations are not questioned: a few boxes of COCO
    have no area, and Detectron2 leaves them out.

    Raises:
        UserError: what is wrong first; DATASETS.DROP_BAD_BOXES lets bad boxes pass, DATALOADER.CHECK_FILES False
            damaged files.
    """
    on_main_process(lambda: _check(cfg, sides or ("TRAIN", "UNLABELED", "TEST")))


def _check(cfg: CfgNode, sides: Sequence[str]) -> None:
    for side in sides:
        for name in cfg.DATASETS[side]:
            meta = MetadataCatalog.get(name)
            source = f"DATASETS.{side}: data set {name}"
            if meta.get("evaluator_type") == "coco" and (json_file := meta.get("json_file")):
                coco = read_coco(json_file)
                if not coco["images"]:
                    raise UserError(f"{source} is empty: {json_file} names no image")
                if side != "UNLABELED":
                    _check_labels(cfg, coco, side, name)
                images = [i | {"file_name": os.path.join(meta.image_root, i["file_name"])} for i in coco["images"]]
            else:
                images = DatasetCatalog.get(name)
            if cfg.DATALOADER.CHECK_FILES:
                check_images(images, _check_image, source)


def _check_labels(cfg: CfgNode, coco: Coco, side: str, name: str) -> None:
    json_file, source = MetadataCatalog.get(name).json_file, f"DATASETS.{side}: data set {name}"
    if name not in BUILT_IN:
        check_references(coco, json_file)
    if bad := bad_boxes(coco):
        message = (
            f"{source}: {len(bad)} boxes of {json_file} are not finite, of no area or outside of their image, first "
            f"annotation {bad[0]['id']} with {bad[0]['bbox']}"
        )
        if name not in BUILT_IN and not cfg.DATASETS.DROP_BAD_BOXES:
            raise UserError(f"{message}; correct them, or set DATASETS.DROP_BAD_BOXES to True to train without them")
        logger.warning(message)
    if side == "TRAIN":
        objects = [a for a in coco["annotations"] if not a.get("iscrowd")]
        if len(objects) == len(bad):
            raise UserError(f"{source}: {json_file} has nothing to learn from: add annotations of objects (iscrowd 0)")
        bare = [a["id"] for a in objects if not a.get("segmentation")]
        if bare and cfg.MODEL.MASK_ON:
            raise UserError(
                f"{source}: {len(bare)} annotations of {json_file} have no segmentation, first annotation {bare[0]}; "
                "add them, or set MODEL.MASK_ON to False"
            )


def _check_image(image: dict[str, Any]) -> None:
    size = (image["height"], image["width"]) if {"height", "width"} <= set(image) else None
    check_image(image["file_name"], size, "in the annotations")
