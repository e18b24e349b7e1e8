"""One-stage students: any RetinaNet config, distilled on the class logits of every anchor."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch import RetinaNet
from torch import Tensor

from densedist.common.distill.taps import Taps, TapSpec, TapSpecs
from densedist.common.distill.teacher import precision
from densedist.common.distributed import mean_over_processes
from densedist.common.errors import UserError
from densedist.common.losses.checks import Activation
from densedist.common.modules import record
from densedist.det.cache.maps import MapsRetinaNetTeacher
from densedist.det.distilling import Distilling
from densedist.det.taps import feature_specs, feature_taps
from densedist.det.teacher.detector import DetectorTeacher
from densedist.det.teacher.loading import load_teacher_model
from densedist.det.teacher.retinanet import LOGIT_TAPS, RetinaNetTeacher


@dataclass(frozen=True)
class Seen:
    """What the student's parts gave, by call: the backbone's maps, and the head's class logits of each level."""

    features: list[dict[str, Tensor]]
    maps: list[list[Tensor]]


@META_ARCH_REGISTRY.register()
class DistillRetinaNet(Distilling, RetinaNet):
    """RetinaNet whose training losses include distillation from a frozen RetinaNet.

    Taps, in training, with a tensor for each level: cls_logits, rows of the classes of one anchor, or of all
    anchors of one location; logit_maps (N, anchors x classes, H, W), the same numbers; and those of det/taps.py.
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

    @configurable
    def __init__(self, *, dense_rows: str = "anchors", **others: Any) -> None:
        """
        Args:
            dense_rows: what is a row of the class logits, "anchors" or "locations".
            others: see Distilling.
        """
        self._dense_rows = dense_rows
        super().__init__(**others)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return super().from_config(cfg) | {"dense_rows": cfg.DISTILL.DENSE_ROWS}

    @classmethod
    def load_teacher(cls, cfg: CfgNode) -> RetinaNetTeacher:
        node, kind = cfg.DISTILL.TEACHER, RetinaNetTeacher
        if node.CACHE and not node.CACHE_MAPS_GB:
            raise UserError(
                "DISTILL.TEACHER.CACHE keeps a two-stage teacher's boxes, and the anchors of a one-stage detector are "
                "no such boxes: keep maps, by DISTILL.TEACHER.CACHE_MAPS_GB, or leave it empty"
            )
        if node.CACHE:
            kind = MapsRetinaNetTeacher
        if node.INPUT_SCALE != 1:
            raise UserError(
                "DISTILL.TEACHER.INPUT_SCALE is for R-CNNs, as a RetinaNet's anchors would move: set it to 1"
            )
        loaded = load_teacher_model(cfg, RetinaNet)
        return kind(loaded.model, loaded.flipped, precision(cfg), loaded.classes)

    def check_pair(self, teacher: DetectorTeacher) -> None:
        for model in teacher.models:
            self._check_with(model)

    def _check_with(self, teacher: RetinaNet) -> None:
        models = self, teacher
        anchors, strides = (
            [value(model) for model in models]
            for value in (lambda m: m.anchor_generator.num_anchors, lambda m: m.anchor_generator.strides)
        )
        if anchors[0] != anchors[1] or strides[0] != strides[1]:
            raise UserError(
                f"MODEL.ANCHOR_GENERATOR: the student has {anchors[0]} anchors at strides {strides[0]}, "
                f"the teacher {anchors[1]} at {strides[1]}; distillation needs the same"
            )
        _check_anchors(*(model.anchor_generator for model in models))
        sizes = [model.backbone.size_divisibility for model in models]
        if sizes[0] != sizes[1]:
            raise UserError(
                f"MODEL.FPN.IN_FEATURES: the student pads images to multiples of {sizes[0]} pixels, the teacher of "
                f"{sizes[1]}; distillation needs the same"
            )

    def tap_specs(self, teacher: DetectorTeacher) -> tuple[TapSpecs, TapSpecs]:
        def specs(model: Any, levels: list[str]) -> TapSpecs:
            # Of a teacher of other classes the logits come in the student's.
            maps = tuple(count * self.num_classes for count in model.anchor_generator.num_anchors)
            rows = (self._columns(),) * len(maps)
            return {
                "cls_logits": TapSpec("rows", rows, "sigmoid"),
                "logit_maps": TapSpec("maps", maps, "sigmoid"),
                **feature_specs(model.backbone, levels),
            }

        ours, theirs = self.levels
        given = specs(teacher.model, theirs)
        return specs(self, ours), {name: given[name] for name in LOGIT_TAPS} if teacher.others else given

    @staticmethod
    def class_columns(model: Any) -> tuple[Activation, tuple[str, ...]]:
        return "sigmoid", ()

    @contextmanager
    def watch(self) -> Iterator[Seen]:
        with record(self.backbone, lambda _, out: out) as features, record(self.head, lambda _, out: out[0]) as maps:
            yield Seen(features, maps)

    def run_without_labels(self, inputs: list[dict]) -> None:
        features = self.backbone(self.preprocess_image(inputs).tensor)
        self.head([features[level] for level in self.head_in_features])

    def taps(self, needed: Collection[str], inputs: list[dict], seen: Seen) -> tuple[Taps, Taps]:
        assert self.distillation is not None
        ours, theirs = self.levels
        student = feature_taps(needed, seen.features[0], ours)
        maps, teacher = self.distillation.teacher.for_batch(needed, inputs, theirs)
        return student | self._logit_taps(seen.maps[0]), teacher | self._logit_taps(maps)

    def _logit_taps(self, maps: list[Tensor]) -> dict[str, Sequence[Tensor]]:
        return {"logit_maps": maps, "cls_logits": [rows(x, self._columns()) for x in maps]}

    def _columns(self) -> int:
        anchors = self.anchor_generator.num_anchors[0] if self._dense_rows == "locations" else 1
        return anchors * self.num_classes

    def _ema_update(self, name: str, value: float, initial_value: float, momentum: float = 0.9) -> float:
        # Over all processes: their losses, averaged, are then those of one process with all images.
        mean = mean_over_processes(torch.tensor(value, dtype=torch.float64, device=self.device)).item()
        return super()._ema_update(name, mean, initial_value, momentum)

    @staticmethod
    def class_rows(
        model: RetinaNet, teacher: RetinaNetTeacher | None, sample: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """Of all anchors of all levels."""
        features = model.backbone(model.preprocess_image([sample]).tensor)
        maps, _ = model.head([features[level] for level in model.head_in_features])
        student = torch.cat([rows(x, model.num_classes) for x in maps])
        if teacher is None:
            return student, None
        theirs, _ = teacher.taps({"cls_logits"}, [sample["image"]])
        return student, torch.cat([rows(x, model.num_classes) for x in theirs])

    @staticmethod
    def checkpoint_parts(model: RetinaNet) -> dict[str, Any]:
        return {**Distilling.checkpoint_parts(model), "loss_normalizer": LossNormalizer(model)}


def _check_anchors(student: Any, teacher: Any) -> None:
    """Make sure that generators with as many anchors on the same maps have the same ones in the same order.

    Raises:
        UserError: another offset, size or ratio. What is rounded away in the teacher's precision is no difference.
    """
    offsets = [getattr(generator, "offset", None) for generator in (student, teacher)]
    if offsets[0] != offsets[1]:
        raise UserError(
            f"MODEL.ANCHOR_GENERATOR.OFFSET: the student has {offsets[0]}, the teacher {offsets[1]}; distillation "
            "needs the same"
        )
    # Somebody's own generator may not have them.
    levels = (getattr(generator, "cell_anchors", ()) for generator in (student, teacher))
    for stride, ours, theirs in zip(student.strides, *levels, strict=False):
        tolerance = max(1e-3, torch.finfo(theirs.dtype).eps)
        # The student is moved to the teacher's device only when it is built.
        ours, theirs = ours.float().cpu(), theirs.float().cpu()
        if not torch.allclose(ours, theirs, tolerance, tolerance):
            number = int((ours - theirs).abs().amax(1).argmax())
            first, second = (
                " x ".join(f"{side:.1f}" for side in (box[2:] - box[:2]).tolist())
                for box in (ours[number], theirs[number])
            )
            raise UserError(
                f"MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS: anchor {number} at stride {stride} is {first} pixels "
                f"of the student and {second} of the teacher; distillation needs the same anchors in the same order"
            )


def rows(logits: Tensor, columns: int) -> Tensor:
    """(N, A x K, H, W), anchor-major, as (N·H·W·A, K) or (N·H·W, A x K), whichever has that many columns."""
    return logits.permute(0, 2, 3, 1).reshape(-1, columns)


class LossNormalizer:
    """RetinaNet's running mean of positive anchors, which a checkpoint needs to go on and Detectron2 leaves out."""

    def __init__(self, model: RetinaNet) -> None:
        self._model = model

    def state_dict(self) -> dict[str, float | None]:
        return {"value": getattr(self._model, "loss_normalizer", None)}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        if state_dict["value"] is not None:
            self._model.loss_normalizer = state_dict["value"]
