"""What turns a Detectron2 meta-architecture into one that distills: a mixin, and which classes have it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from densedist.common.config import check_values
from densedist.common.config.keys import value_of
from densedist.common.distill.build import build_distiller, is_on
from densedist.common.distill.distiller import Distillation, Distiller, beside
from densedist.common.distill.ensemble import one_by_one
from densedist.common.distill.taps import TapSpecs
from densedist.common.errors import UserError
from densedist.common.losses.checks import Activation
from densedist.det.config import GRAMMAR, keys
from densedist.det.modeling.inheriting import KEY, inherit
from densedist.det.taps.group import Batch, TapGroup
from densedist.det.teacher.detector import DetectorTeacher, averaged

# Of the specs of both sides, and why taps are lacking.
MakeDistiller = Callable[[TapSpecs, TapSpecs, dict[str, str]], Distiller]


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
        self,
        *,
        teacher: DetectorTeacher | None = None,
        distiller: MakeDistiller | None = None,
        inherited: Sequence[str] = (),
        unlabeled_weight: float = 1.0,
        **student: Any,
    ):
        """
        Args:
            teacher, distiller: both or none; the latter of the tap specs of both sides.
            inherited: parts that start from the teacher's (see det/modeling/inheriting.py).
            unlabeled_weight: a factor on the losses of images without labels.
            student: the arguments of the stock class.
        """
        super().__init__(**student)
        self.distillation = None
        self.watched: list[tuple[TapGroup, set[str]]] = []  # with the taps that the losses need of each
        if teacher is not None and distiller is not None:
            self.check_pair(teacher)
            made = distiller(*self.tap_specs(teacher), self.lacking(teacher))
            self.distillation = Distillation(teacher, made, unlabeled_weight)
            if inherited and teacher.classes is not None:
                raise UserError(f"{KEY}: the teacher has other classes (DISTILL.TEACHER.CLASSES): leave it empty")
            inherit(self, teacher.heritage, inherited)
            for each in (teacher, *teacher.others):
                each.heritage = {}  # their memory is free again
            needed = [(g, made.taps & set(g.specs(self, teacher)[0])) for g in self.tap_groups(teacher)]
            self.watched = [(group, taps) for group, taps in needed if taps]

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        check_values(cfg, keys())  # of a script that loads its config itself, too
        student = super().from_config(cfg)  # type: ignore[misc]
        if not is_on(cfg.DISTILL):
            return student
        node = cfg.DISTILL.TEACHER
        teacher = cls.load_teachers(cfg)
        boxes_only = bool(node.CACHE) and not node.CACHE_MAPS

        def make(ours: TapSpecs, theirs: TapSpecs, lacking: dict[str, str]) -> Distiller:
            return build_distiller(cfg, ours, theirs, logits_only=boxes_only, classes=teacher.classes, lacking=lacking)

        own = {"inherited": cfg.DISTILL.INHERIT, "unlabeled_weight": cfg.DISTILL.UNLABELED_WEIGHT}
        return student | {"teacher": teacher, "distiller": make} | own

    def forward(self, batched_inputs: list[dict]) -> Any:
        if self.distillation is None or not self.training:
            return super().forward(batched_inputs)
        labeled = [x for x in batched_inputs if "instances" in x]
        unlabeled = [x for x in batched_inputs if "instances" not in x]
        losses: dict[str, Tensor] = {}
        if labeled:
            with self._watch(labeled) as (batch, seen):
                losses = super().forward(labeled)
            losses = beside(losses, self._distill(batch, seen))
        if unlabeled:
            with self._watch(unlabeled) as (batch, seen):
                self.run_without_labels(unlabeled)
            weight, found = self.distillation.unlabeled_weight, self._distill(batch, seen)
            losses = beside(losses, {f"{name}_unlabeled": weight * loss for name, loss in found.items()})
        return losses

    @contextmanager
    def _watch(self, inputs: list[dict]) -> Iterator[tuple[Batch, list[Any]]]:
        """The batch before its teacher, and what each of the watched groups sees of the student within the block."""
        assert self.distillation is not None
        batch = Batch(self.distillation.teacher, inputs)
        batch.begin()
        with ExitStack() as stack:
            yield batch, [stack.enter_context(group.watch(self)) for group, _ in self.watched]

    def _distill(self, batch: Batch, seen: Sequence[Any]) -> dict[str, Tensor]:
        assert self.distillation is not None
        distiller = self.distillation.distiller
        ours: dict[str, Sequence[Tensor]] = {}
        theirs: dict[str, Sequence[Tensor]] = {}
        targets: dict[str, Sequence[Tensor]] = {}
        inside: dict[str, Sequence[Tensor | None]] = {}
        for (group, needed), what in zip(self.watched, seen, strict=True):
            for side, taps in zip((ours, theirs), group.taps(needed, self, what, batch), strict=True):
                side.update(taps)
            inside.update(group.inside(needed, self, what, batch))
            if labeled := needed & distiller.targets:
                targets.update(group.targets(labeled, self, what, batch))
        return distiller(ours, theirs, targets=targets, inside=inside)

    def tap_specs(self, teacher: DetectorTeacher) -> tuple[TapSpecs, TapSpecs]:
        """What the student and what the teacher can give."""
        each = [group.specs(self, teacher) for group in self.tap_groups(teacher)]
        ours, theirs = ({name: tap for pair in each for name, tap in pair[side].items()} for side in (0, 1))
        return ours, theirs

    def lacking(self, teacher: DetectorTeacher) -> dict[str, str]:
        """Why this pair does not have a tap, by its name."""
        return {name: why for group in self.tap_groups(teacher) for name, why in group.lacking(self, teacher).items()}

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
    def tap_groups(self, teacher: DetectorTeacher) -> Sequence[TapGroup]:
        """The parts that can give taps to distillation by this teacher; no two of them the same tap."""

    @abstractmethod
    def run_without_labels(self, inputs: list[dict]) -> None:
        """Let the parts run that distillation watches."""

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
