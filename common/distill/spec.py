"""What an entry of the loss registry says of a loss: its keys, what it compares, and how it is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from densedist.common.config.keys import Key
from densedist.common.distill.adapters import linear
from densedist.common.distill.taps import UNLABELED, Kind, TapSpec, Targets

# Of a loss, the student's tensor and the teacher's, of which the student's has no element: the loss of the batch,
# with a gradient, and with the same collectives as on the other processes.
Empty = Callable[[nn.Module, Tensor, Tensor], Tensor]


def zero(_: nn.Module, student: Tensor, __: Tensor) -> Tensor:
    """A loss that looks at this process alone."""
    return student.sum()


def one_row_that_does_not_count(loss: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """A loss on rows (0, C) or RoIs (0, C, H, W) with a mask: with sync it is that of the others' rows."""
    ours, theirs = (torch.cat([x, x.new_zeros(1, *x.shape[1:])]) for x in (student, teacher))
    return loss(ours, theirs, student.new_zeros(1, dtype=torch.bool))


def one_row_without_a_label(loss: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """The same of a loss on rows (0, C) that takes their classes."""
    ours, theirs = (torch.cat([x, x.new_zeros(1, *x.shape[1:])]) for x in (student, teacher))
    return loss(ours, theirs, target=torch.full((1,), UNLABELED, device=student.device))


def own(loss: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """A loss that takes no sample where it gathers those of others."""
    return loss(student, teacher) if loss.sync else zero(loss, student, teacher)


@dataclass(frozen=True)
class LossSpec:
    """A loss that a config can switch on by DISTILL.<NAME>.WEIGHT above 0.

    Args:
        make: the loss, of its own keys, what the tap is, and DISTILL.SYNC. It is called with the student's tensor
            and the teacher's, once for each tensor of the tap, and gives a 0-dim loss.
        tap: what it compares, or the choice of it by its keys.
        keys: DISTILL.<NAME>.* beside WEIGHT, with defaults, and with the values that they may have.
        weight: the default of WEIGHT.
        kinds: the taps that it accepts (see TapSpec).
        logits: it accepts class logits alone, and takes a third argument `valid`: the rows that count, or None.
        padding: of maps it takes a third argument `inside`, the places that are no padding, or None, and so does what
            is learned. Of others the student's numbers in padding become the teacher's.
        targets: what of the labels it takes as a keyword `target` (see TapSpec); "" = nothing.
        adapt: when the student's tensors pass through adapters to the teacher's channels. "never": the channels may
            differ (relations) or cannot (class logits).
        adapter: the adapter of one tensor, of its own keys, the kind of the tap, and the channels of both sides.
        learned: a part of the loss with parameters, for each tensor one, of its own keys and the teacher's channels. It
            is called with the same two tensors and gives a 0-dim loss to add; it is trained with the student and no
            part of it.
        auxiliary: whether it also goes to auxiliary heads.
        empty: what it gives where a process has no row or sample.
        title: what its loss is called in the log, after "loss_"; "" = its name in lowercase.
        unfit: why it teaches nothing, or is not defined, by a tap of a kind that it accepts, in words that go on after
            the tap's name; "" = it does teach.
        described: a word of the plan for what it makes of the tap first.
    """

    make: Callable[[CfgNode, TapSpec, bool], nn.Module]
    tap: str | Callable[[CfgNode], str]
    keys: Mapping[str, Key | Any] = field(default_factory=dict)
    weight: float = 0.0
    kinds: tuple[Kind, ...] = ("maps",)
    logits: bool = False
    padding: bool = False
    targets: Targets = ""
    adapt: Literal["where channels differ", "always", "never"] = "where channels differ"
    adapter: Callable[[CfgNode, Kind, int, int], nn.Module] = lambda _, *given: linear(*given)
    learned: Callable[[CfgNode, int], nn.Module] | None = None
    auxiliary: bool = True
    empty: Empty = zero
    title: str = ""
    unfit: Callable[[CfgNode, TapSpec], str] = lambda *_: ""
    described: Callable[[CfgNode], str] = lambda _: ""
