"""Frozen parts of a student, which training leaves as they are: they have to come from somewhere."""

from collections.abc import Collection, Mapping, Sequence

from detectron2.config import CfgNode
from torch import Tensor, nn

from densedist.common.errors import UserError

STOCK_FREEZE_AT = 2  # Detectron2's default: the user may not have asked for it
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


def check_filled(model: nn.Module, unfilled: Collection[str], source: str) -> None:
    """Make sure that weights which were loaded fill what is frozen, each part of the model as a whole or not at all.

    Args:
        unfilled: the names of the tensors that the weights do not have.
        source: names the weights, for messages.

    Raises:
        UserError: naming the part that would stay, wholly or in part, as it was initialized.
    """
    for name, part in model.named_children():
        frozen = _frozen(part, f"{name}.")
        if not (lacking := [tensor for tensor in frozen if tensor in unfilled]):
            continue
        if len(lacking) < len(frozen) or _is_initial(frozen):  # else its author has filled all of it
            raise UserError(
                f"{source} does not fill {len(lacking)} of {len(frozen)} frozen tensors of the {name}, first "
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
    """Return by name the tensors that training leaves as they are; of a frozen batch norm these are buffers."""
    parameters = {prefix + name: p for name, p in part.named_parameters() if not p.requires_grad}
    affine = {prefix + name: b for name, b in part.named_buffers() if name.endswith((".weight", ".bias"))}
    return parameters | affine


def _is_initial(frozen: Mapping[str, Tensor]) -> bool:
    """Return whether frozen tensors are as they were initialized.

    Biases and norms show it: they start as constants (0, 1). The convolutions beside them are then initial, too.
    """
    vectors: Sequence[Tensor] = [v for v in frozen.values() if v.dim() == 1 and len(v) > 1]
    return all(bool((v == v[0]).all()) for v in vectors)
