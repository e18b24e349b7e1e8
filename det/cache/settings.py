"""The settings of a detector that decide, apart from its weights, what it finds: its parts' plain attributes."""

from collections.abc import Iterator, Mapping
from typing import Any

from detectron2.modeling.matcher import Matcher
from torch import nn

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def settings(model: nn.Module) -> dict[str, str]:
    """Return the plain attributes of all parts as text, e.g. {"proposal_generator.nms_thresh": "0.7"}.

    In stock Detectron2 they are thresholds of scores and overlaps, numbers of proposals and of detections, weights of
    box deltas, and names of maps. No list names them, so that those of a user's own parts count, too. Settings of
    training alone, such as a Matcher's, are left out.
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
