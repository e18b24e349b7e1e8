"""What turns a Detectron2 meta-architecture into one that distills: a mixin, and which classes have it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from densedist.common.config import check_values
from densedist.common.config.keys import value_of
from densedist.common.distill.build import build_distiller, is_on
from densedist.common.distill.distillation import Distillation
from densedist.common.distill.distiller import Distiller
from densedist.common.distill.several import one_by_one
from densedist.common.distill.taps import Taps, TapSpecs
from densedist.common.errors import UserError
from densedist.common.losses.checks import Activation
from densedist.det.config import GRAMMAR, keys
from densedist.det.taps import Levels, shared_levels
from densedist.det.teacher.detector import DetectorTeacher, averaged

MakeDistiller = Callable[[TapSpecs, TapSpecs], Distiller]


class Distilling(nn.Module, ABC):
    """A mixin: `class DistillX(Distilling, X)` is X whose training losses include distillation.

    Images without "instances" are only distilled; their losses end in _unlabeled. In evaluation, and in training
    without a teacher, it is the plain X; its state_dict() always is. Registered in META_ARCH_REGISTRY, it can be
    trained, evaluated, drawn and exported by all commands. A subclass declares the following and implements the
    abstract methods.

    Args of the class:
        stock: X.
        classes_key: where a config has the number of classes.
        row: what a row of class logits is, in the plural.
    """

    stock: ClassVar[type[nn.Module]]
    classes_key: ClassVar[str]
    row: ClassVar[str]

    distillation: Distillation | None
    backbone: Any

    @configurable
    def __init__(
        self, *, teacher: DetectorTeacher | None = None, distiller: MakeDistiller | None = None, **student: Any
    ):
        """
        Args:
            teacher, distiller: both or none; the latter of the tap specs of both sides.
            student: the arguments of the stock class.
        """
        super().__init__(**student)
        self.levels: Levels = [], []  # the maps that student and teacher share
        self.distillation = None
        if teacher is not None and distiller is not None:
            self.check_pair(teacher)
            self.levels = shared_levels(self.backbone, teacher.model.backbone)
            self.distillation = Distillation(teacher, distiller(*self.tap_specs(teacher)))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        check_values(cfg, keys())  # of a script that loads its config itself, too
        student = super().from_config(cfg)  # type: ignore[misc]
        if not is_on(cfg.DISTILL):
            return student
        node = cfg.DISTILL.TEACHER
        teacher = cls.load_teachers(cfg)
        boxes_only = bool(node.CACHE) and not node.CACHE_MAPS_GB
        make = partial(build_distiller, cfg, logits_only=boxes_only, classes=teacher.classes)
        return student | {"teacher": teacher, "distiller": make}

    def forward(self, batched_inputs: list[dict]) -> Any:
        if self.distillation is None or not self.training:
            return super().forward(batched_inputs)
        labeled = [x for x in batched_inputs if "instances" in x]
        unlabeled = [x for x in batched_inputs if "instances" not in x]
        losses: dict[str, Tensor] = {}
        if labeled:
            with self.watch() as seen:
                losses = super().forward(labeled)
            losses |= self._distill(labeled, seen)
        if unlabeled:
            with self.watch() as seen:
                self.run_without_labels(unlabeled)
            losses |= {f"{name}_unlabeled": loss for name, loss in self._distill(unlabeled, seen).items()}
        return losses

    def _distill(self, inputs: list[dict], seen: Any) -> dict[str, Tensor]:
        assert self.distillation is not None
        distiller = self.distillation.distiller
        return distiller(*self.taps(distiller.taps, inputs, seen))

    @classmethod
    def load_teachers(cls, cfg: CfgNode) -> DetectorTeacher:
        """The teacher that DISTILL.TEACHER of the student's config names, or those of its MORE with it, as one.

        Raises:
            UserError: see load_teacher; several that cannot be averaged.
        """
        several = one_by_one(cfg, GRAMMAR)
        if len(several) > 1 and cfg.DISTILL.TEACHER.CACHE:
            raise UserError("DISTILL.TEACHER.CACHE keeps what one detector sees: leave it empty, or MORE")
        return averaged([cls.load_teacher(one) for one in several])

    @classmethod
    @abstractmethod
    def load_teacher(cls, cfg: CfgNode) -> DetectorTeacher:
        """The one that DISTILL.TEACHER of the student's config names, on the student's device.

        Raises:
            UserError: a teacher that is not there, not trained, of another kind or of other classes.
        """

    def check_pair(self, teacher: DetectorTeacher) -> None:
        """Make sure that the teacher can teach this student.

        Raises:
            UserError: it cannot.
        """

    @abstractmethod
    def tap_specs(self, teacher: DetectorTeacher) -> tuple[TapSpecs, TapSpecs]:
        """What the student and what the teacher can give."""

    @abstractmethod
    def watch(self) -> AbstractContextManager[Any]:
        """What the student's parts see and give within the block, for taps()."""

    @abstractmethod
    def run_without_labels(self, inputs: list[dict]) -> None:
        """Let the parts run that distillation watches."""

    @abstractmethod
    def taps(self, needed: Collection[str], inputs: list[dict], seen: Any) -> tuple[Taps, Taps]:
        """The student's taps and the teacher's.

        Args:
            inputs: samples, "image" of each raw (3, H, W), 0 to 255.
            seen: of watch(), after the block.
        """

    @staticmethod
    @abstractmethod
    def class_columns(model: Any) -> tuple[Activation, tuple[str, ...]]:
        """What class logits go through, and the names of their columns beside the classes.

        Args:
            model: of this class or its stock class.
        """

    @staticmethod
    @abstractmethod
    def class_rows(model: Any, teacher: Any, sample: dict) -> tuple[Tensor, Tensor | None]:
        """Class logits (R, K) of an image for pictures: the student's, and the teacher's if there is one.

        Args:
            model: of this class or its stock class, in eval mode.
            sample: {"image": raw (3, H, W)}.
        """

    @staticmethod
    def checkpoint_parts(model: Any) -> dict[str, Any]:
        """What a checkpoint of a model of this class or its stock class holds beside it, by name."""
        distillation = getattr(model, "distillation", None)
        return {"adapters": distillation.distiller.adapters} if distillation and distillation.distiller.adapters else {}


def distilling_classes() -> dict[str, type[Distilling]]:
    """All registered meta-architectures that distill, by name."""
    # A function may be registered, too.
    return {name: kind for name, kind in META_ARCH_REGISTRY if isinstance(kind, type) and issubclass(kind, Distilling)}


def distilling_class(architecture: str) -> type[Distilling] | None:
    """The class of that name, or the first one of which it is the stock class; None if there is none."""
    classes = distilling_classes()
    stock = (kind for kind in classes.values() if kind.stock.__name__ == architecture)
    return classes.get(architecture) or next(stock, None)


def count_classes(cfg: CfgNode) -> tuple[int, str]:
    """The number of classes of the config's detector, and the key that says so."""
    kind = distilling_class(cfg.MODEL.META_ARCHITECTURE)
    key = kind.classes_key if kind else "MODEL.ROI_HEADS.NUM_CLASSES"
    return value_of(cfg, key), key
