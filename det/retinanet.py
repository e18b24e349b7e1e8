"""One-stage students: any RetinaNet config, distilled on the class logits of every anchor."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch import RetinaNet
from torch import Tensor

from densedist.common.distributed import mean_over_processes
from densedist.common.losses.checks import Activation
from densedist.det import teacher_loading
from densedist.det.distilling import Distilling
from densedist.det.taps.anchors import Anchors, live_class_maps
from densedist.det.taps.crossed import Crossed
from densedist.det.taps.features import Features
from densedist.det.taps.found import FoundAnchors
from densedist.det.taps.grid import by_anchor
from densedist.det.taps.group import TapGroup
from densedist.det.teacher.foreign import ForeignTeacher
from densedist.det.teacher.teacher import DetTeacher


@META_ARCH_REGISTRY.register()
class DistillRetinaNet(Distilling, RetinaNet):
    """RetinaNet whose training losses include distillation from a frozen detector.

    Its taps are those of Features, Anchors and Crossed in det/taps, of a teacher of boxes alone those of FoundAnchors.
    """

    head: Any
    anchor_generator: Any
    preprocess_image: Any
    head_in_features: list[str]
    num_classes: int
    device: torch.device

    stock = RetinaNet
    classes_key = "MODEL.RETINANET.NUM_CLASSES"
    row = "anchors"
    load_teacher = staticmethod(teacher_loading.load_teacher)

    def tap_groups(self, teacher: DetTeacher) -> Sequence[TapGroup]:
        assert self.distill_cfg is not None
        node = self.distill_cfg.DISTILL
        whole_locations = node.DENSE_ROWS == "locations"
        if isinstance(teacher, ForeignTeacher):
            return (FoundAnchors(whole_locations),)
        return Features(), Anchors(whole_locations), Crossed(node.SYNC)

    @staticmethod
    def class_columns(model: Any) -> tuple[Activation, tuple[str, ...]]:
        return "sigmoid", ()

    def run_without_labels(self, inputs: list[dict]) -> None:
        features = self.backbone(self.preprocess_image(inputs).tensor)
        self.head([features[level] for level in self.head_in_features])

    def _ema_update(self, name: str, value: float, initial_value: float, momentum: float = 0.9) -> float:
        # Over all processes: their losses, averaged, are then those of one process with all images.
        mean = mean_over_processes(torch.tensor(value, dtype=torch.float64, device=self.device)).item()
        return super()._ema_update(name, mean, initial_value, momentum)

    @staticmethod
    def class_rows(
        model: RetinaNet, teacher: DetTeacher | None, sample: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """Return those of all anchors of all levels."""
        features = model.backbone(model.preprocess_image([sample]).tensor)
        maps, _ = model.head([features[level] for level in model.head_in_features])
        student = by_anchor(maps, model.num_classes)
        if teacher is None or not isinstance(teacher.model, RetinaNet):
            return student, None
        return student, by_anchor(live_class_maps(teacher, [sample["image"]]), model.num_classes)

    @staticmethod
    def checkpoint_parts(model: RetinaNet) -> dict[str, Any]:
        return {**Distilling.checkpoint_parts(model), "loss_normalizer": LossNormalizer(model)}


class LossNormalizer:
    """RetinaNet's running mean of positive anchors, which a checkpoint needs to go on and Detectron2 leaves out."""

    def __init__(self, model: RetinaNet) -> None:
        self._model = model

    def state_dict(self) -> dict[str, float | None]:
        return {"value": getattr(self._model, "loss_normalizer", None)}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        if state_dict["value"] is not None:
            self._model.loss_normalizer = state_dict["value"]
