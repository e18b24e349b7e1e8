"""Anchors that two detectors share, and what their heads say of them, row by row."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def by_anchor(maps: Sequence[Tensor], columns: int) -> Tensor:
    """Return anchor-major maps (N, anchors x columns, H, W) as rows (R, columns): by level, image and place."""
    return torch.cat([by_row(x, columns) for x in maps])


def by_row(maps: Tensor, columns: int) -> Tensor:
    """Return an anchor-major map (N, A x K, H, W) as (N·H·W·A, K) or (N·H·W, A x K), by the columns wanted."""
    return maps.permute(0, 2, 3, 1).reshape(-1, columns)


def in_place(maps: Tensor, columns: int, rows_lie_together: bool) -> Tensor:
    """Return the rows of by_row in an order in which they need no copy: (N·A, K, H, W) or (N, A x K, H, W), by the
    columns wanted; or rows (R, columns).

    Args:
        rows_lie_together: the maps are channels_last, and want the latter.
    """
    if rows_lie_together:
        return by_row(maps, columns)
    return maps.reshape(-1, columns, *maps.shape[2:])


def anchor_boxes(generator: Any, maps: Sequence[Tensor]) -> Tensor:
    """Return the anchors (R, 4), in pixels, of the rows of by_anchor.

    Args:
        maps: one for each level of the generator, with the places that count.
    """
    return torch.cat([level.tensor.repeat(len(x), 1) for level, x in zip(generator(maps), maps, strict=True)])


def different_grids(student: Any, teacher: Any) -> str:
    """Return why the anchors of two models are not the same at the same places of the same image; "" if they are.

    Args:
        student, teacher: with a backbone, and an anchor_generator, their own or their proposal generator's.
    """
    why = _different_anchors(*map(_generator, (student, teacher))) or _different_padding(student, teacher)
    return f"{why}; distillation needs the same anchors in the same order" if why else ""


def _generator(model: Any) -> Any:
    return (getattr(model, "proposal_generator", None) or model).anchor_generator


def _different_anchors(student: Any, teacher: Any) -> str:
    """Return the same for two generators. What is rounded away in the teacher's precision is no difference."""
    sides = student, teacher
    counts, strides = ([getattr(side, name) for side in sides] for name in ("num_anchors", "strides"))
    if counts[0] != counts[1] or strides[0] != strides[1]:
        return (
            f"MODEL.ANCHOR_GENERATOR: the student has {counts[0]} anchors at strides {strides[0]}, the teacher "
            f"{counts[1]} at {strides[1]}"
        )
    offsets = [getattr(side, "offset", None) for side in sides]
    if offsets[0] != offsets[1]:
        return f"MODEL.ANCHOR_GENERATOR.OFFSET: the student has {offsets[0]}, the teacher {offsets[1]}"
    # Somebody's own generator may not have them.
    levels = (getattr(side, "cell_anchors", ()) for side in sides)
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
            return (
                f"MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS: anchor {number} at stride {stride} is {first} pixels "
                f"of the student and {second} of the teacher"
            )
    return ""


def _different_padding(student: Any, teacher: Any) -> str:
    sizes = [model.backbone.size_divisibility for model in (student, teacher)]
    if sizes[0] == sizes[1]:
        return ""
    return (
        f"MODEL.FPN.IN_FEATURES: the student pads images to multiples of {sizes[0]} pixels, the teacher of {sizes[1]}"
    )
