"""TEST.AUG: a detector that looks at an image in several sizes and mirrored, as Detectron2's test-time augmentation."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.test_time_augmentation import DatasetMapperTTA, GeneralizedRCNNWithTTA
from detectron2.structures import Boxes, Instances
from torch import nn

from densedist.common.errors import UserError
from densedist.det.modeling.fusion import fuse

KEY = "TEST.AUG.ENABLED"


def augmented(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Return the model as TEST.AUG has it, in eval mode: itself where that is off.

    An R-CNN goes through Detectron2's GeneralizedRCNNWithTTA: the boxes of all views together pass one NMS, the masks
    on them are averaged. The boxes that any other detector finds in each view are fused (det/modeling/fusion.py).

    Args:
        model: takes samples of Detectron2's mapper for tests, and gives "instances".
    """
    if not cfg.TEST.AUG.ENABLED:
        return model
    kind = GeneralizedRCNNWithTTA if isinstance(model, GeneralizedRCNN) else FusedViews
    return kind(cfg, model).eval()


def check_augmented(cfg: CfgNode) -> None:
    """Refuse what cannot be tested with augmentation.

    Raises:
        UserError: naming the key that does not go together with TEST.AUG.
    """
    if not cfg.TEST.AUG.ENABLED:
        return
    for key, is_on in (
        ("MODEL.KEYPOINT_ON", cfg.MODEL.KEYPOINT_ON),
        ("MODEL.LOAD_PROPOSALS", cfg.MODEL.LOAD_PROPOSALS),
    ):
        if is_on:
            raise UserError(f"{KEY}: Detectron2 has no test-time augmentation with {key}: set one of them to False")
    if cfg.TEST.AUG.FLIP and cfg.INPUT.FLIP_PAIRS:
        raise UserError(
            "TEST.AUG.FLIP: a mirror image shows other classes (INPUT.FLIP_PAIRS), which Detectron2's test-time "
            "augmentation does not know: set it to False"
        )


class FusedViews(nn.Module):
    """A detector whose predictions on an image are those on all its views, fused.

    Args:
        cfg: with TEST.AUG.{MIN_SIZES, MAX_SIZE, FLIP} and TEST.DETECTIONS_PER_IMAGE.
        model: in eval mode.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        super().__init__()
        self.model, self.views = model, DatasetMapperTTA(cfg)
        self.most = cfg.TEST.DETECTIONS_PER_IMAGE

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Return {"instances": on the CPU, in pixels of the original image} for each sample; masks are left out."""
        return [{"instances": self._fused(sample)} for sample in batched_inputs]

    def _fused(self, sample: dict[str, Any]) -> Instances:
        found = []
        for view in self.views(sample):
            back = view.pop("transforms").inverse()
            view["height"], view["width"] = view["image"].shape[1:]
            seen = self.model([view])[0]["instances"].to("cpu")
            boxes = torch.from_numpy(back.apply_box(seen.pred_boxes.tensor.numpy()))
            size = sample["height"], sample["width"]
            found.append(Instances(size, pred_boxes=Boxes(boxes), scores=seen.scores, pred_classes=seen.pred_classes))
        return fuse(found)[: self.most]
