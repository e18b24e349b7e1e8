"""Taps on the RoIs that a two-stage student sampled: class logits, boxes and pooled features of both sides there."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.structures import Boxes
from torch import Tensor

from densedist.common.distill.ensemble import mean_logits
from densedist.common.distill.taps import Tap, Taps, TapSpec, TapSpecs, per_image, subsample
from densedist.common.losses.checks import widen
from densedist.common.modules import record
from densedist.det.modeling import box_head
from densedist.det.modeling.box_head import Predictions
from densedist.det.taps.boxes import Likeliest, box_rows, likeliest
from densedist.det.taps.group import AVERAGED, TapGroup
from densedist.det.teacher.teacher import DetPending, DetTeacher

ROI_SAMPLES = 64  # RoIs whose relations are compared: their angles cost the cube of it
FIRST, REFINED = ("boxes", "deltas"), ("refined_boxes", "refined_deltas")


@dataclass(frozen=True)
class RecordedRoIs:
    """What went into the student's box head and came out: boxes and pooled features by call, predictions by stage."""

    regions: list[tuple[list[Boxes], Tensor]]
    stages: list[list[Predictions]]

    @property
    def predictions(self) -> list[Predictions]:
        """Return the predictions by call."""
        return [call for stage in self.stages for call in stage]


class RoIs(TapGroup):
    """The taps on RoIs, a tensor for each call of the student's box predictor: one call for Faster and Mask R-CNN, one
    per stage for Cascade.

    cls_logits: (R, K+1), with sigmoids (R, K), of both sides on the same boxes.
    boxes: where each side puts these boxes for the class that the teacher finds likeliest, the student (R, 4), the
    teacher (R, 5). deltas: the same as regression targets of the student. refined_boxes, refined_deltas: the same with
    the teacher's boxes behind all stages of its cascade, where the others have those of its first.
    rois: the means of the pooled features of up to ROI_SAMPLES of the boxes.
    """

    def specs(self, student: Any, teacher: DetTeacher) -> tuple[TapSpecs, TapSpecs]:
        heads = student.roi_heads
        calls = len(box_head.predictors(heads))
        ours = _specs(student, calls, heads.num_classes, columns=4)
        if not isinstance(teacher.model, GeneralizedRCNN):
            return ours, {}
        known = teacher.classes.columns if teacher.classes else teacher.model.roi_heads.num_classes
        theirs = _specs(teacher.model, calls, known, columns=5)
        lacking = self.lacking(student, teacher)
        return ours, {name: tap for name, tap in theirs.items() if name not in lacking}

    def lacking(self, student: Any, teacher: DetTeacher) -> dict[str, str]:
        alone = ("rois", *FIRST, *REFINED)
        for model in teacher.models:
            if not isinstance(model, GeneralizedRCNN):
                return dict.fromkeys(("cls_logits", *alone), f"the teacher is a {type(model).__name__}, no R-CNN")
        if teacher.others:
            return dict.fromkeys(alone, AVERAGED)
        if not isinstance(teacher.model.roi_heads, CascadeROIHeads):
            return dict.fromkeys(REFINED, "the teacher is no cascade")
        return {}

    @contextmanager
    def record(self, student: Any) -> Iterator[RecordedRoIs]:
        heads = student.roi_heads
        with ExitStack() as stack:
            yield RecordedRoIs(
                stack.enter_context(record(box_head.pooler(heads), lambda args, output: (args[1], output))),
                [
                    stack.enter_context(record(p, lambda _, out: Predictions(box_head.columns(heads, out[0]), out[1])))
                    for p in box_head.predictors(heads)
                ],
            )

    def taps(self, needed: Collection[str], student: Any, recorded: RecordedRoIs, pending: DetPending) -> Taps:
        teacher, boxes = pending.teacher, [boxes for boxes, _ in recorded.regions]
        taps = {}
        with teacher.alone():
            regions = [_pooled(teacher, pending.maps, call) for call in boxes]
            heads_run = set(needed) - {"rois"}
            given = [box_head.predict(teacher.model.roi_heads, x, teacher.stages) for x in regions] if heads_run else []
        if "rois" in needed:
            ours = [_samples(pooled) for _, pooled in recorded.regions]
            taps["rois"] = Tap(ours, [_samples(pooled) for pooled in regions])
        if "cls_logits" in needed:
            each = [[rows_in_student_classes(teacher, p.logits) for p in given]]
            each += [class_logits(other.teacher, other.maps, boxes) for other in pending.others]
            taps["cls_logits"] = self.tap_of_logits(student, recorded, pending, _mean(teacher, each))
        for name in sorted(set(needed) & {*FIRST, *REFINED}):
            taps[name] = tap_of_boxes(name, student, recorded, _boxes(name, recorded, pending, given))
        return taps

    def tap_of_logits(
        self, student: Any, recorded: RecordedRoIs, pending: DetPending, teacher: Sequence[Tensor]
    ) -> Tap:
        """Return cls_logits; its targets are (R,) for each call, the background's column where no object is.

        Args:
            teacher: its logits, by call.
        """
        stages = [stage for stage, calls in enumerate(recorded.stages) for _ in calls]
        heads, labels = student.roi_heads, [sample.get("instances") for sample in pending.samples]

        def targets() -> list[Tensor]:
            calls = zip(stages, recorded.regions, strict=True)
            return [box_head.classes_of(heads, stage, rois, labels) for stage, (rois, _) in calls]

        return Tap([call.logits for call in recorded.predictions], teacher, targets=targets)


def tap_of_boxes(name: str, student: Any, recorded: RecordedRoIs, taught: Iterable[tuple[Likeliest, Tensor]]) -> Tap:
    """Return a tap of FIRST or REFINED.

    Args:
        taught: for each call what the teacher says of the RoIs: their likeliest class, and their box (R, 4).
    """
    both = zip(box_head.predictors(student.roi_heads), recorded.stages, strict=True)
    predictors = [predictor for predictor, calls in both for _ in calls]
    pairs = []
    calls = zip(predictors, recorded.predictions, recorded.regions, taught, strict=True)
    for predictor, call, (rois, _), (best, boxes) in calls:
        references, deltas = Boxes.cat(rois).tensor, box_head.of_class(call.deltas, best.ours)
        as_deltas = name.endswith("deltas")
        pairs.append(box_rows(predictor.box2box_transform, deltas, references, boxes, best.logit, as_deltas))
    ours, theirs = zip(*pairs, strict=True)
    return Tap(ours, theirs)


def _boxes(
    name: str, recorded: RecordedRoIs, pending: DetPending, given: Sequence[Predictions]
) -> Iterator[tuple[Likeliest, Tensor]]:
    """Yield for each call what the teacher says of the RoIs.

    Args:
        name: of FIRST or REFINED.
        given: by the teacher for these calls.
    """
    teacher = pending.teacher
    for (rois, _), taught in zip(recorded.regions, given, strict=True):
        with teacher.alone():
            best = _likeliest(teacher, taught)
            first = name in FIRST
            boxes = _first(teacher, taught, best, Boxes.cat(rois).tensor) if first else _refined(pending, rois)
        yield best, boxes


def class_logits(teacher: DetTeacher, maps: dict[str, Tensor], boxes: list[list[Boxes]]) -> list[Tensor]:
    """Return the teacher's class logits, in the student's classes, for each list of boxes (one Boxes per image)."""
    with teacher.alone():
        regions = [_pooled(teacher, maps, call) for call in boxes]
        given = [box_head.predict(teacher.model.roi_heads, x, teacher.stages) for x in regions]
        return [rows_in_student_classes(teacher, p.logits) for p in given]


def live_class_logits(teacher: DetTeacher, images: Sequence[Tensor], boxes: list[list[Boxes]]) -> list[Tensor]:
    """Return the same for raw images (3, H, W), 0 to 255; of an ensemble those of the mean probabilities."""
    return _mean(teacher, [class_logits(t, t.live_maps(images), boxes) for t in (teacher, *teacher.others)])


def rows_in_student_classes(teacher: DetTeacher, logits: Tensor) -> Tensor:
    """Return class logits (R, K+1), with sigmoids (R, K), of the teacher's classes as logits of the student's; what the
    student does not know is background."""
    if teacher.classes is None:
        return logits
    heads = teacher.model.roi_heads
    activation = box_head.activation(heads)
    softmax = activation == "softmax"
    classes = teacher.classes.with_background(heads.num_classes) if softmax else teacher.classes
    return classes.of_teacher(logits, activation)


def _specs(model: Any, calls: int, classes: int, columns: int) -> TapSpecs:
    heads = model.roi_heads
    activation = box_head.activation(heads)
    softmax = activation == "softmax"
    pooled = box_head.pooled_channels(heads, model.backbone)
    return {
        "cls_logits": TapSpec("rows", (classes + softmax,) * calls, activation, targets="classes" if softmax else ""),
        "rois": TapSpec("samples", (pooled,) * calls),
        **dict.fromkeys((*FIRST, *REFINED), TapSpec("boxes", (columns,) * calls)),
    }


def _samples(pooled: Tensor) -> Tensor:
    return subsample(per_image(pooled), ROI_SAMPLES)


def _pooled(teacher: DetTeacher, maps: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
    return box_head.pooled(teacher.model.roi_heads, maps, scaled(boxes, teacher.scale))


def scaled(boxes: list[Boxes], scale: float) -> list[Boxes]:
    """Return boxes of the student's image in one that is that many times larger."""
    return boxes if scale == 1 else [Boxes(of_image.tensor * scale) for of_image in boxes]


def _mean(teacher: DetTeacher, each: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return by call the class logits of an ensemble's mean probabilities.

    Args:
        each: class logits of each teacher, by call.
    """
    activation = box_head.activation(teacher.model.roi_heads)
    return [mean_logits(call, activation) for call in zip(*each, strict=True)]


def _likeliest(teacher: DetTeacher, given: Predictions) -> Likeliest:
    heads = teacher.model.roi_heads
    return likeliest(given.logits, box_head.activation(heads), heads.num_classes, teacher.classes)


def _first(teacher: DetTeacher, given: Predictions, best: Likeliest, references: Tensor) -> Tensor:
    # Deltas are parts of the box, so the scale of the teacher's images does not matter.
    transform = box_head.predictors(teacher.model.roi_heads)[0].box2box_transform
    return transform.apply_deltas(widen(box_head.of_class(given.deltas, best.theirs)), references)


def _refined(pending: DetPending, boxes: list[Boxes]) -> Tensor:
    teacher, scale = pending.teacher, pending.teacher.scale
    sizes = [sample["image"].shape[1:] for sample in pending.samples]
    large = [(int(height * scale), int(width * scale)) for height, width in sizes]
    return box_head.refine(teacher.model.roi_heads, pending.maps, scaled(boxes, scale), large) / scale
