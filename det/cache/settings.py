"""The settings of a detector that decide what it finds, apart from weights: the plain attributes of all its parts."""

from collections.abc import Iterator, Mapping
from typing import Any

from detectron2.modeling.matcher import Matcher
from torch import nn

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def settings(model: nn.Module) -> dict[str, str]:
    """Return as text, by name, e.g. {"proposal_generator.nms_thresh": "0.7"}.

    So what a teacher is asked with need not be listed anywhere: of stock Detectron2 thresholds of scores and overlaps,
    numbers of proposals and of detections, weights of box deltas, names of maps; and whatever an author's own part has.
    """
    return dict(_of_parts(model))


def _of_parts(model: nn.Module) -> Iterator[tuple[str, str]]:
    for path, part in model.named_modules():
        if not type(part).__module__.startswith("torch.nn."):  # the model's structure says these
            yield from _of_attributes(vars(part), path)


def _of_attributes(attributes: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, value in attributes.items():
        where = f"{path}.{name}".lstrip(".")
        if name in _OF_EVERY_MODULE or isinstance(value, Matcher):  # of training
            continue
        if _is_plain(value):
            yield where, repr(value)
        elif type(value).__module__.startswith("detectron2.") and not isinstance(value, nn.Module):
            yield from _of_attributes(getattr(value, "__dict__", {}), where)  # as Box2BoxTransform


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(map(_is_plain, (*value, *value.values())))
    return value is None or isinstance(value, (bool, int, float, str))
