"""Frozen parts of a student, which training leaves as they are: they have to come from somewhere."""

from collections.abc import Mapping, Sequence

from detectron2.config import CfgNode
from torch import Tensor, nn

from densedist.common.engine.checkpoint import load_weights as load_checkpoint
from densedist.common.errors import UserError

STOCK_FREEZE_AT = 2  # Detectron2's default, which says nothing of what a user wants
REMEDY = (
    "name weights to start from, or train all of it (MODEL.BACKBONE.FREEZE_AT 0, and MODEL.RESNETS.NORM or "
    "MODEL.TIMM.NORM BN)"
)


def check_frozen(model: nn.Module) -> None:
    """Make sure that, without weights, what is frozen comes from timm, or from the backbone's author.

    Raises:
        UserError: naming the part that would stay as it was initialized.
    """
    for name, part in model.named_children():
        if _is_initial(frozen := _frozen(part)) and frozen:
            raise UserError(
                f"MODEL.WEIGHTS is empty, but parts of the {name} are frozen and would stay as they were initialized: "
                f"{REMEDY}"
            )


def load_weights(model: nn.Module, weights: str, key: str, trust_pickle: bool) -> None:
    """Let a student start from weights (see densedist.common.engine.checkpoint), which fill what is frozen.

    Raises:
        UserError: weights that cannot be used, or that fill frozen parts in part.
    """
    unfilled = set(load_checkpoint(model, weights, key, trust_pickle))
    for name, part in model.named_children():
        frozen = _frozen(part, f"{name}.")
        if not (lacking := [tensor for tensor in frozen if tensor in unfilled]):
            continue
        if len(lacking) < len(frozen) or _is_initial(frozen):  # else its author has filled all of it
            raise UserError(
                f"{key}: {weights} does not fill {len(lacking)} of {len(frozen)} frozen tensors of the {name}, first "
                f"{lacking[0]}, and they would stay as they were initialized: {REMEDY}"
            )


def check_freeze_at(cfg: CfgNode, model: nn.Module) -> None:
    """Refuse a MODEL.BACKBONE.FREEZE_AT that the backbone does not obey.

    Raises:
        UserError: it is set, and nothing is frozen.
    """
    backbone = getattr(model, "backbone", None)
    if cfg.MODEL.BACKBONE.FREEZE_AT in (0, STOCK_FREEZE_AT) or backbone is None:
        return
    if all(parameter.requires_grad for parameter in backbone.parameters()):
        raise UserError(
            f"MODEL.BACKBONE.FREEZE_AT is {cfg.MODEL.BACKBONE.FREEZE_AT}, but {cfg.MODEL.BACKBONE.NAME} freezes "
            "nothing: set it to 0, or take a backbone of Detectron2"
        )


def _frozen(part: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Return by name what training leaves as it is; of a frozen batch norm these are buffers."""
    parameters = {prefix + name: p for name, p in part.named_parameters() if not p.requires_grad}
    affine = {prefix + name: b for name, b in part.named_buffers() if name.endswith((".weight", ".bias"))}
    return parameters | affine


def _is_initial(frozen: Mapping[str, Tensor]) -> bool:
    """Whether frozen tensors are as they were initialized.

    Biases and norms that are all constant (0, 1) are; so are then the convolutions, whose numbers do not show it.
    """
    vectors: Sequence[Tensor] = [v for v in frozen.values() if v.dim() == 1 and len(v) > 1]
    return all(bool((v == v[0]).all()) for v in vectors)
