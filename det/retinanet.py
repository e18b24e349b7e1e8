"""One-stage students: any RetinaNet config, distilled on the class logits of every anchor."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch import RetinaNet
from torch import Tensor

from densedist.common.distributed import mean_over_processes
from densedist.common.distill.distiller import Distiller, build_distiller, is_on
from densedist.common.errors import UserError
from densedist.common.distill.taps import record
from densedist.det.taps import Levels, feature_taps, offer, shared_levels
from densedist.det.retinanet import RetinaNetTeacher, load_teacher
from densedist.det.distilling import learn_and_imitate


@META_ARCH_REGISTRY.register()
class DistillRetinaNet(RetinaNet):
    """RetinaNet whose training losses include distillation from a frozen RetinaNet.

    Taps, in training, with a tensor for each level: cls_logits, rows of the classes of one anchor, or of all
    anchors of one location; logit_maps (N, anchors x classes, H, W), the same numbers; and those of
    det/feature_taps.py. Images without "instances" are only distilled; their losses end in _unlabeled. In
    evaluation, and in training without a teacher, it is the plain RetinaNet; its
    state_dict() always is.
    """

    @configurable
    def __init__(
        self,
        *,
        teacher: RetinaNetTeacher | None = None,
        distiller: Distiller | None = None,
        levels: Levels | None = None,
        columns: int = 0,
        **student,
    ) -> None:
        """
        Args:
            teacher, distiller: both or none.
            levels: the maps that student and teacher share.
            columns: logits in a row: the number of classes, or of anchors at a location x classes.
            student: the arguments of RetinaNet.
        """
        super().__init__(**student)
        self.teacher, self.distiller, self.levels, self.columns = teacher, distiller, levels or [], columns
        if teacher is not None:
            _check_anchors(self, teacher.model)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        student = super().from_config(cfg)
        if not is_on(cfg.DISTILL):
            return student
        kind, classes = cfg.DISTILL.DENSE_ROWS, cfg.MODEL.RETINANET.NUM_CLASSES
        if kind not in ("anchors", "locations"):
            raise UserError(f"DISTILL.DENSE_ROWS is {kind}: want anchors or locations")
        columns = classes * (1 if kind == "anchors" else student["anchor_generator"].num_anchors[0])
        teacher = load_teacher(cfg)
        levels = shared_levels(student["backbone"], teacher.model.backbone)
        logits: dict[str, Sequence[int]] = {"cls_logits": [], "logit_maps": []}
        ours = logits | offer(student["backbone"], [name for name, _ in levels])
        theirs = logits | offer(teacher.model.backbone, [name for _, name in levels])
        distiller = build_distiller(cfg, ours, theirs, activation="sigmoid")
        return student | {"distiller": distiller, "teacher": teacher, "levels": levels, "columns": columns}

    def forward(self, batched_inputs: list[dict]) -> Any:
        if self.teacher is None or self.distiller is None or not self.training:
            return super().forward(batched_inputs)
        return learn_and_imitate(batched_inputs, self._learn, self._imitate)

    def _ema_update(self, name: str, value: float, initial_value: float, momentum: float = 0.9) -> float:
        # Over all processes: their losses, averaged, are then those of one process with all images.
        mean = mean_over_processes(torch.tensor(value, dtype=torch.float64, device=self.device)).item()
        return super()._ema_update(name, mean, initial_value, momentum)

    def _learn(self, inputs: list[dict]) -> dict[str, Tensor]:
        """The losses of labelled images."""
        with record(self.backbone, lambda _, out: out) as features, record(self.head, lambda _, out: out[0]) as maps:
            losses = super().forward(inputs)
        return losses | self._distil(inputs, features[0], maps[0])

    def _imitate(self, inputs: list[dict]) -> dict[str, Tensor]:
        """Distillation alone."""
        features = self.backbone(self.preprocess_image(inputs).tensor)
        maps, _ = self.head([features[level] for level in self.head_in_features])
        return self._distil(inputs, features, maps)

    def _distil(self, inputs: list[dict], features: dict[str, Tensor], maps: list[Tensor]) -> dict[str, Tensor]:
        assert self.teacher is not None
        assert self.distiller is not None
        needed = self.distiller.taps
        student = self._logit_taps(maps) | feature_taps(needed, features, [ours for ours, _ in self.levels])
        images, levels = [x["image"] for x in inputs], [theirs for _, theirs in self.levels]
        maps_of_teacher, teacher = self.teacher.taps(needed, images, levels)
        return self.distiller(student, self._logit_taps(maps_of_teacher) | teacher)

    def _logit_taps(self, maps: list[Tensor]) -> dict[str, Sequence[Tensor]]:
        return {"logit_maps": maps, "cls_logits": [rows(x, self.columns) for x in maps]}


def rows(logits: Tensor, columns: int) -> Tensor:
    """(N, A x K, H, W), anchor-major, as (N·H·W·A, K) or (N·H·W, A x K), whichever has that many columns."""
    return logits.permute(0, 2, 3, 1).reshape(-1, columns)


def _check_anchors(student: RetinaNet, teacher: RetinaNet) -> None:
    counts, strides = (
        [value(model) for model in (student, teacher)]
        for value in (lambda m: m.anchor_generator.num_anchors, lambda m: m.anchor_generator.strides)
    )
    if counts[0] != counts[1] or strides[0] != strides[1]:
        raise UserError(
            f"MODEL.ANCHOR_GENERATOR: the student has {counts[0]} anchors at strides {strides[0]}, "
            f"the teacher {counts[1]} at {strides[1]}; distillation needs the same"
        )


class LossNormalizer:
    """RetinaNet's running mean of positive anchors, which a checkpoint needs to go on and Detectron2 leaves out."""

    def __init__(self, model: RetinaNet) -> None:
        self._model = model

    def state_dict(self) -> dict[str, float | None]:
        return {"value": getattr(self._model, "loss_normalizer", None)}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        if state_dict["value"] is not None:
            self._model.loss_normalizer = state_dict["value"]


#### MERGED FROM det.retinanet_teacher
"""The frozen RetinaNet teacher: from its own config and weights to taps for the student's images."""

from collections.abc import Collection, Sequence

from detectron2.config import CfgNode
from detectron2.modeling.meta_arch import RetinaNet
from torch import Tensor

from densedist.common.distill.teacher import Teacher, precision
from densedist.det.taps import feature_taps
from densedist.det.models import load_model


class RetinaNetTeacher(Teacher[RetinaNet]):
    """A frozen RetinaNet that classifies all its anchors; box regression and NMS do not run."""

    def taps(
        self, needed: Collection[str], images: list[Tensor], levels: list[str]
    ) -> tuple[list[Tensor], dict[str, Sequence[Tensor]]]:
        """Class logits (N, anchors x classes, H, W) of each level, and the taps of det/feature_taps.py needed.

        The logits are left out (an empty list) where neither cls_logits nor logit_maps is needed.

        Args:
            images: raw images (3, H, W), 0 to 255, in the student's channel order.
            levels: the backbone's maps to take.
        """
        batch = self.model.preprocess_image([{"image": image} for image in self.own_order(images)])
        with self.alone():
            features = self.model.backbone(batch.tensor.to(self.precision))
            maps = []
            if {"cls_logits", "logit_maps"} & set(needed):
                head = self.model.head
                maps = [head.cls_score(head.cls_subnet(features[level])) for level in self.model.head_in_features]
            return maps, feature_taps(needed, features, levels)


def load_teacher(student_cfg: CfgNode) -> RetinaNetTeacher:
    """The teacher that DISTILL.TEACHER of the student's config names, on the student's device.

    Raises:
        UserError: a missing config or weights, weights that do not fit, classes other than the student's, a
            teacher of another kind, or an unknown precision.
    """
    return RetinaNetTeacher(*load_model(student_cfg, RetinaNet), precision(student_cfg))
