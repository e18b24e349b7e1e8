"""Labels that a teacher wrote, as a sample has them: scores of its objects, and boxes that are neither these nor
background."""

from collections.abc import Callable, Mapping, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data.detection_utils import (
    annotations_to_instances,
    filter_empty_instances,
    transform_instance_annotations,
)
from detectron2.data.transforms import TransformList
from detectron2.structures import Boxes

from densedist.common.data.confidence import Confidence
from densedist.common.data.headers import Size

# Fields (M,) of a sample's instances, if they count: the teacher's scores of these labels, 0 to 1; and 1 for boxes
# that teach a place, 0 for those of a larger variance than PSEUDO_LABELS.MAX_BOX_VARIANCE.
GT_SCORES, GT_PLACED = "gt_scores", "gt_placed"
VARIANCE = "box_variance"  # of an annotation that a teacher wrote (det/inference/jitter.py)
# The boxes of a sample that are neither objects nor background.
IGNORED = "ignored"
Entry = dict


def low_as_crowds(dicts: Sequence[Entry], least: float) -> list[Entry]:
    """Return Detectron2's dataset dicts whose annotations of a lower score are crowds, as those that `densedist label
    --ignore-threshold` is less sure of."""

    def marked(annotation: Entry) -> Entry:
        return annotation | {"iscrowd": 1} if annotation.get("score", 1.0) < least else annotation

    return [d | {"annotations": [marked(annotation) for annotation in d["annotations"]]} for d in dicts]


def fields(cfg: CfgNode) -> dict[str, Callable[[Entry], float]]:
    """Return what PSEUDO_LABELS lets instances have of their annotations, by the name of the field."""
    found: dict[str, Callable[[Entry], float]] = {}
    if Confidence.of(cfg).by_score:
        found[GT_SCORES] = lambda annotation: annotation["score"]
    if most := cfg.PSEUDO_LABELS.MAX_BOX_VARIANCE:
        found[GT_PLACED] = lambda annotation: annotation[VARIANCE] <= most
    return found


def transform(
    sample: Entry,
    transforms: TransformList,
    size: Size,
    fields: Mapping[str, Callable[[Entry], float]],
    to_instances: Callable,
) -> None:
    """Let to_instances() move the annotations of a sample, and add the boxes of crowds as IGNORED and more fields to
    the instances.

    Args:
        sample: a copy of a dataset dict.
        transforms: what the image went through.
        size: height and width of the image now.
        fields: what an annotation has in each.
        to_instances: puts "instances" in the place of "annotations".
    """
    objects, crowds = ([a for a in sample["annotations"] if bool(a.get("iscrowd")) == kind] for kind in (False, True))
    ignored = _boxes(crowds, transforms, size)
    classes = [annotation["category_id"] for annotation in objects]
    if fields:
        for number, annotation in enumerate(objects):
            annotation["category_id"] = number  # by which those are known that are left in a crop
    to_instances()
    instances = sample["instances"]
    if fields:
        left = instances.gt_classes
        instances.gt_classes = torch.tensor(classes, dtype=torch.int64)[left]
        for name, field in fields.items():
            instances.set(name, torch.tensor([float(field(annotation)) for annotation in objects])[left])
    if len(ignored):
        sample[IGNORED] = ignored


def _boxes(annotations: Sequence[Entry], transforms: TransformList, size: Size) -> Boxes:
    """Return the boxes of annotations in the transformed image, as far as they are in it."""
    bare = [{key: a[key] for key in ("bbox", "bbox_mode", "category_id")} for a in annotations]
    moved = [transform_instance_annotations(annotation, transforms, size) for annotation in bare]
    return filter_empty_instances(annotations_to_instances(moved, size)).gt_boxes
