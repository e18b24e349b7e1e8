"""The mixin that turns a Detectron2 meta-architecture into one that distills."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, TypeVar

from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from densedist.common.config import check_values
from densedist.common.distill.average import AVERAGE, is_average
from densedist.common.distill.build import build_distiller
from densedist.common.distill.distiller import Distillation, merge_losses
from densedist.common.distill.ensemble import configs_of_each
from densedist.common.distill.registry import is_on
from densedist.common.distill.taps import Tap, TapSpecs
from densedist.common.errors import UserError
from densedist.common.losses.checks import Activation
from densedist.det.config import GRAMMAR, keys
from densedist.det.label_weights import weighed
from densedist.det.modeling.inheriting import KEY, inherit
from densedist.det.taps.group import TapGroup
from densedist.det.teacher.average import average_of
from densedist.det.teacher.kept import KeptBoxes
from densedist.det.teacher.teacher import DetTeacher, averaged

R = TypeVar("R")
TRAIN = "train with `densedist train det`"


class Distilling(nn.Module, ABC):
    """A mixin: `class DistillX(Distilling, X)` is X whose training losses include distillation.

    Detectron2's build_model(cfg) builds the plain X and reads no file of the teacher. attach_teacher() loads it;
    `densedist train det` calls it, and in a script that does not, the first training batch does. Images without
    "instances" are only distilled; their losses end in _unlabeled. In evaluation, and in training without a teacher, it
    is X; its state_dict() always is.

    Registered in META_ARCH_REGISTRY, it can be trained, evaluated, drawn and exported by all commands. A subclass
    declares the following and implements the abstract methods.

    Args of the class:
        stock: X.
        classes_key: the key of a config that has the number of classes.
        row: what a row of class logits is, in the plural.
        load_teacher: gives the one teacher that DISTILL.TEACHER of the student's config names, on the student's device;
            raises UserError if it is not there, not trained, of another kind or of other classes.
    """

    stock: ClassVar[type[nn.Module]]
    classes_key: ClassVar[str]
    row: ClassVar[str]
    load_teacher: ClassVar["staticmethod[..., DetTeacher]"]

    distill_cfg: CfgNode | None = None
    awaits_teacher = False
    pseudo_weight = 1.0
    distillation: Distillation | None
    backbone: Any

    @configurable
    def __init__(self, *, distill_cfg: CfgNode | None = None, pseudo_weight: float = 1.0, **student: Any):
        """
        Args:
            distill_cfg: the student's config; None = it asks for no teacher.
            pseudo_weight: PSEUDO_LABELS.WEIGHT.
            student: the arguments of the stock class.
        """
        super().__init__(**student)
        # A teacher has neither, and caches know it by its attributes (det/cache/settings.py).
        if distill_cfg is not None:
            self.distill_cfg, self.awaits_teacher = distill_cfg, True
        if pseudo_weight != 1:
            self.pseudo_weight = pseudo_weight
        self.distillation = None
        self.watched: list[tuple[TapGroup, set[str]]] = []  # with the taps that the losses need of each

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        check_values(cfg, keys())  # of a script that loads its config itself, too
        student = super().from_config(cfg)  # type: ignore[misc]
        asked = cfg if is_on(cfg.DISTILL) else None
        return student | {"distill_cfg": asked, "pseudo_weight": cfg.PSEUDO_LABELS.WEIGHT}

    def attach_teacher(self, after_optimizer: bool = False) -> None:
        """Load the teacher that DISTILL of the config names, and make the losses. Without one, or where it is attached
        already, do nothing.

        Args:
            after_optimizer: whether an optimizer has been built, and a checkpoint loaded. It would not know the
                parameters of losses, what the student inherits would take the checkpoint's place, and nothing would
                keep an average that teaches.

        Raises:
            UserError: a teacher that is missing or does not fit (see load_teachers and build_distiller); or, after the
                optimizer, losses with parameters, DISTILL.INHERIT, or the student's average as its teacher.
        """
        if not self.awaits_teacher:
            return
        assert self.distill_cfg is not None
        late = f"call attach_teacher() on the model before the optimizer is built, or {TRAIN}"
        if after_optimizer and self.distill_cfg.DISTILL.INHERIT:
            raise UserError(
                f"{KEY}: the student would start from its teacher, but its weights are loaded already: {late}"
            )
        teacher = self.load_teachers(self.distill_cfg, self)
        if after_optimizer and teacher.average is not None:
            raise UserError(f"DISTILL.TEACHER.WEIGHTS: nothing here updates the {AVERAGE}: {TRAIN}")
        self.learn_from(teacher)
        assert self.distillation is not None
        if after_optimizer and (parts := list(self.distillation.distiller.adapters)):
            self.distillation = None
            raise UserError(f"the loss {parts[0]} has parameters, which the optimizer does not know: {late}")
        self.awaits_teacher = False

    def learn_from(self, teacher: DetTeacher) -> None:
        """Make the losses by which the student learns from a teacher.

        Raises:
            UserError: the two do not fit.
        """
        cfg = self.distill_cfg
        assert cfg is not None
        self.check_pair(teacher)
        distiller = build_distiller(
            cfg,
            *self.tap_specs(teacher),
            logits_only=isinstance(teacher, KeptBoxes),
            classes=teacher.classes,
            lacking=self.lacking(teacher),
        )
        if cfg.DISTILL.INHERIT and teacher.classes is not None:
            raise UserError(f"{KEY}: the teacher has other classes (DISTILL.TEACHER.CLASSES): leave it empty")
        if cfg.DISTILL.INHERIT and is_average(cfg.DISTILL.TEACHER):
            raise UserError(f"{KEY}: the teacher is the student's {AVERAGE}: leave it empty")
        inherit(self, teacher.heritage, cfg.DISTILL.INHERIT)
        for each in (teacher, *teacher.others):
            each.heritage = {}  # their memory is free again
        needed = [(group, distiller.needed & set(group.specs(self, teacher)[0])) for group in self.tap_groups(teacher)]
        self.watched = [(group, taps) for group, taps in needed if taps]
        device = next(self.parameters()).device
        self.distillation = Distillation(teacher, distiller, cfg.DISTILL.UNLABELED_WEIGHT).to(device)

    def forward(self, batched_inputs: list[dict]) -> Any:
        if self.training:
            self.attach_teacher(after_optimizer=True)
        if not self.training:
            return super().forward(batched_inputs)
        if self.distillation is None:
            return self._with_labels(batched_inputs)
        labeled = [x for x in batched_inputs if "instances" in x]
        unlabeled = [x for x in batched_inputs if "instances" not in x]
        losses: dict[str, Tensor] = {}
        if labeled:
            losses = merge_losses(*self._distilled(labeled, self._with_labels))
        if unlabeled:
            _, distilled = self._distilled(unlabeled, self.run_without_labels)
            weight = self.distillation.unlabeled_weight
            losses = merge_losses(losses, {f"{name}_unlabeled": weight * loss for name, loss in distilled.items()})
        return losses

    def _with_labels(self, samples: list[dict]) -> dict[str, Tensor]:
        """Return the stock losses of samples with labels, which count as the samples say."""
        with weighed(self, samples, self.pseudo_weight):
            return super().forward(samples)

    def _distilled(self, samples: list[dict], run: Callable[[list[dict]], R]) -> tuple[R, dict[str, Tensor]]:
        """Run the student on samples; return what run gives, and the losses of distillation."""
        assert self.distillation is not None
        pending = self.distillation.teacher.begin(samples)
        with self._record() as recorded:
            result = run(samples)
        taps: dict[str, Tap] = {}
        for (group, needed), of_group in zip(self.watched, recorded, strict=True):
            taps.update(group.taps(needed, self, of_group, pending))
        return result, self.distillation.distiller(taps)

    @contextmanager
    def _record(self) -> Iterator[list[Any]]:
        """Record, within the block, what the student computes, for each of the groups that losses need."""
        with ExitStack() as stack:
            yield [stack.enter_context(group.record(self)) for group, _ in self.watched]

    def tap_specs(self, teacher: DetTeacher) -> tuple[TapSpecs, TapSpecs]:
        """Return what the student can give and what the teacher can give."""
        each = [group.specs(self, teacher) for group in self.tap_groups(teacher)]
        ours, theirs = ({name: tap for pair in each for name, tap in pair[side].items()} for side in (0, 1))
        return ours, theirs

    def lacking(self, teacher: DetTeacher) -> dict[str, str]:
        """Return, by the name of a tap that this pair does not have, why."""
        return {name: why for group in self.tap_groups(teacher) for name, why in group.lacking(self, teacher).items()}

    @classmethod
    def load_teachers(cls, cfg: CfgNode, student: "Distilling | None" = None) -> DetTeacher:
        """Return the teacher that DISTILL.TEACHER of the student's config names, with those of its MORE as one.

        Args:
            student: whose average may be one of them; None = none is.

        Raises:
            UserError: see load_teacher; or teachers that cannot be averaged.
        """
        each = configs_of_each(cfg, GRAMMAR)
        if len(each) > 1 and cfg.DISTILL.TEACHER.CACHE:
            raise UserError("DISTILL.TEACHER.CACHE keeps the output of one detector: leave it or MORE empty")
        return averaged(
            [average_of(student, one) if is_average(one.DISTILL.TEACHER) else cls.load_teacher(one) for one in each]
        )

    def check_pair(self, teacher: DetTeacher) -> None:
        """Check that the teacher can teach this student.

        Raises:
            UserError: it cannot.
        """

    @abstractmethod
    def tap_groups(self, teacher: DetTeacher) -> Sequence[TapGroup]:
        """Return the groups of taps that distillation by this teacher can use; no two of them have the same tap."""

    @abstractmethod
    def run_without_labels(self, inputs: list[dict]) -> None:
        """Run the parts of the student whose taps are recorded."""

    @staticmethod
    @abstractmethod
    def class_columns(model: Any) -> tuple[Activation, tuple[str, ...]]:
        """Return what class logits go through, and the names of their columns that are no classes.

        Args:
            model: of this class or its stock class.
        """

    @staticmethod
    @abstractmethod
    def class_rows(model: Any, teacher: Any, sample: dict) -> tuple[Tensor, Tensor | None]:
        """Return class logits (R, K) of an image for pictures: the student's, and the teacher's if there is one.

        Args:
            model: of this class or its stock class, in eval mode.
            sample: {"image": raw (3, H, W)}.
        """

    @staticmethod
    def checkpoint_parts(model: Any) -> dict[str, Any]:
        """Return what a checkpoint holds in addition to a model of this class or its stock class, by name."""
        distillation = getattr(model, "distillation", None)
        return distillation.distiller.beside if distillation else {}
