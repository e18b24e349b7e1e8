"""From DISTILL.* of a config and the tap specs of both sides to a distiller."""

from collections.abc import Iterator, Mapping

from detectron2.config import CfgNode
from torch import nn

from densedist.common.data.sides import labeled_sets
from densedist.common.distill.classes import ClassMap
from densedist.common.distill.distiller import Distiller, LossWeightSchedule, Term
from densedist.common.distill.registry import LOSSES
from densedist.common.distill.spec import LossSpec
from densedist.common.distill.taps import TapSpec, TapSpecs
from densedist.common.errors import UserError

# Targets, for messages.
FROM_LABELS = {
    "classes": "the classes of labels",
    "objects": "the boxes of labels",
    "anchors": "the boxes of labels",
}


def build_distiller(
    cfg: CfgNode,
    student: TapSpecs,
    teacher: TapSpecs,
    logits_only: bool = False,
    classes: ClassMap | None = None,
    lacking: Mapping[str, str] | None = None,
) -> Distiller:
    """Build the losses that DISTILL.* of the student's config switches on (WEIGHT above 0).

    Args:
        student, teacher: the taps that each side can give.
        logits_only: whether a cache keeps only the teacher's class logits.
        classes: which of the student's classes the teacher knows, where its own are others.
        lacking: why the pair does not have a tap, by its name, for messages.

    Raises:
        UserError: a loss on a tap that the pair does not have, or that the loss does not accept.
    """
    if cfg.DISTILL.GRADIENT_SHARE and not labeled_sets(cfg):
        raise UserError(
            f"DISTILL.GRADIENT_SHARE is {cfg.DISTILL.GRADIENT_SHARE:g}, but DATASETS.TRAIN is empty: there is no loss "
            "with labels to share the gradient with; set it to 0"
        )
    terms, adapters = [], {}
    for name, spec in LOSSES.items():
        keys = cfg.DISTILL[name]
        if keys.WEIGHT <= 0:
            continue
        chosen = spec.tap if isinstance(spec.tap, str) else spec.tap(keys)
        _check(f"DISTILL.{name}", spec, keys, chosen, student, teacher, (lacking or {}).get(chosen, ""))
        if spec.targets == "classes" and not labeled_sets(cfg):
            raise UserError(f"DISTILL.{name} needs labels, and DATASETS.TRAIN is empty: take another loss")
        if logits_only and not spec.logits:  # nor would it leave out what the teacher has not seen
            raise UserError(
                f"DISTILL.TEACHER.CACHE is for losses on class logits, but DISTILL.{name} compares {chosen} as "
                "features: leave the key empty, or switch this loss off"
            )
        title = spec.title or name.lower()
        for tap, factor in _with_auxiliary(spec, chosen, student, teacher):
            term = Term(
                title if tap == chosen else f"{title}_{tap}",
                tap,
                factor * keys.WEIGHT,
                spec.make(keys, student[tap], cfg.DISTILL.SYNC),
                spec,
                " ".join(filter(None, (spec.described(keys), tap, student[tap].places))),
                None if classes is None or student[tap].activation is None else _kept(classes, student[tap]),
                _levels(f"DISTILL.{name}", spec, keys, tap, student[tap]),
                spec.memory(keys),
            )
            terms.append(term)
            if _adapts(spec, student[tap], teacher[tap]):
                pairs = zip(student[tap].channels, teacher[tap].channels, strict=True)
                adapters[term.name] = nn.ModuleList(spec.adapter(keys, student[tap].kind, *pair) for pair in pairs)
            if spec.learned:
                adapters[term.learned] = nn.ModuleList(spec.learned(keys, count) for count in teacher[tap].channels)
    return Distiller(terms, adapters, LossWeightSchedule.of(cfg), cfg.DISTILL.GRADIENT_SHARE)


def _levels(key: str, spec: LossSpec, keys: CfgNode, name: str, tap: TapSpec) -> tuple[int, ...] | None:
    """Return the numbers of the tensors that are compared; None for all."""
    chosen, count = spec.levels(keys), len(tap.channels)
    if wrong := [level for level in chosen if level >= count]:
        raise UserError(
            f"{key}.LEVELS has {wrong[0]}, but {name} of this pair has {count} level(s): want 0 to {count - 1}"
        )
    return tuple(chosen) or None


def _kept(classes: ClassMap, tap: TapSpec) -> tuple[int, ...] | None:
    """Return the columns of class logits that are compared; None for all."""
    if len(classes.kept) == classes.columns:
        return None
    # After a softmax's classes may come the background; sigmoids have none, but may have all classes for each anchor.
    if tap.activation == "softmax":
        return (*classes.kept, *range(classes.columns, tap.channels[0]))
    return classes.tiled(tap.channels[0] // classes.columns, 0).kept


def _adapts(spec: LossSpec, student: TapSpec, teacher: TapSpec) -> bool:
    return spec.adapt == "always" or (spec.adapt != "never" and student.channels != teacher.channels)


def _with_auxiliary(spec: LossSpec, chosen: str, student: TapSpecs, teacher: TapSpecs) -> Iterator[tuple[str, float]]:
    """Yield the chosen tap and the same at auxiliary heads, with factors on the loss's weight."""
    yield chosen, 1.0
    for name, tap in student.items():
        if spec.auxiliary and tap.auxiliary_to == chosen and name in teacher:
            yield name, tap.factor


def _check(
    key: str, spec: LossSpec, keys: CfgNode, tap: str, student: TapSpecs, teacher: TapSpecs, lacking: str
) -> None:
    both = sorted(name for name in student if name in teacher)
    fitting = [name for name in both if _accepts(spec, student[name]) and _accepts(spec, teacher[name])]
    want = f"want one of {', '.join(fitting)}" if fitting else f"no tap of this pair will do: set {key}.WEIGHT to 0"
    if tap not in both:
        raise UserError(f"{key} needs {tap}, which this pair does not have{lacking and f' ({lacking})'}: {want}")
    if why := spec.unfit(keys, student[tap]):
        raise UserError(f"{key}: {tap} {why}")
    if tap not in fitting:
        if student[tap].kind in spec.kinds and spec.targets and student[tap].targets != spec.targets:
            raise UserError(f"{key} needs {FROM_LABELS[spec.targets]} for {tap}, which this pair does not have: {want}")
        given = f"class logits as {student[tap].kind}" if student[tap].activation else student[tap].kind
        wanted = " or ".join(spec.kinds) + (" of class logits" if spec.logits else "")
        raise UserError(f"{key} compares {wanted}, but {tap} of this pair is {given}: {want}")
    ours, theirs = student[tap], teacher[tap]
    if ours.kind != theirs.kind:
        raise UserError(f"{key}: {tap} is {ours.kind} of the student and {theirs.kind} of the teacher: {want}")
    if ours.activation != theirs.activation:
        raise UserError(
            f"{key}: {tap} of the student goes through a {ours.activation}, of the teacher through a "
            f"{theirs.activation}: take a teacher that is trained alike, or a loss on features"
        )
    if len(ours.channels) != len(theirs.channels):
        raise UserError(
            f"{key} needs as many tensors of {tap} on both sides: the student has {len(ours.channels)}, "
            f"the teacher {len(theirs.channels)}"
        )
    if spec.logits and ours.channels != theirs.channels:
        raise UserError(f"{key}: {tap} of the student has {ours.channels} columns, of the teacher {theirs.channels}")


def _accepts(spec: LossSpec, tap: TapSpec) -> bool:
    known = not spec.targets or spec.targets == tap.targets
    return tap.kind in spec.kinds and (tap.activation is not None or not spec.logits) and known
