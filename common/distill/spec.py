"""An entry of the loss registry: a loss's keys, the taps that it compares, and how it is made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from detectron2.config import CfgNode
from torch import nn

from densedist.common.config.keys import Key
from densedist.common.distill.adapters import linear
from densedist.common.distill.taps import Kind, TapSpec, Targets


@dataclass(frozen=True)
class LossSpec:
    """A loss that a config can switch on by DISTILL.<NAME>.WEIGHT above 0; registry.LOSSES has all of them.

    Args:
        make: makes the module from (DISTILL.<NAME> of the config, the student's TapSpec, DISTILL.SYNC); build.py calls
            it. The module is called with the student's tensor and the teacher's, once for each tensor of the tap, and
            returns a 0-dim loss.
        tap: the name of the tap that it compares, or a function of its keys that chooses one.
        keys: DISTILL.<NAME>.* except WEIGHT, with defaults, and with the values that they may have.
        weight: the default of WEIGHT.
        kinds: the taps that it accepts (see TapSpec).
        logits: it accepts only class logits. Its module has a third argument `valid`: see Tap.
        spatial: its module takes rows (N, C, *spatial), too, so that rows of a dense head need no copy.
        padding: its module, and `learned`, take a third argument `inside`: Tap.valid, True where a place is not
            padding. A module with neither argument gets the teacher's values on both sides wherever the mask is
            False, if both sides have the same shape.
        no_rows: its module takes tensors of no row, if they come with `valid`, a mask of no row, and returns a 0-dim
            loss with a gradient. With sync that is the loss of the other processes' rows, and it takes part in their
            collectives. Other modules are not called where a process has no row: their loss there is 0.
        targets: what of the labels its module takes as a keyword `target` (see TapSpec); "" = nothing.
        adapt: when the student's tensors pass through adapters to the teacher's channels. "never": the channels may
            differ (relations) or cannot (class logits).
        adapter: makes the adapter of one tensor from (its keys, the tap's kind, the channels of student and teacher).
        learned: makes a part of the loss that has parameters, one for each tensor, from (its keys, the teacher's
            channels). It is called with the same two tensors and returns a 0-dim loss to add. It is trained with the
            student and is no part of it.
        auxiliary: whether it also goes to auxiliary heads.
        title: what its loss is called in the log, after "loss_"; "" = its name in lowercase.
        unfit: says why it teaches nothing, or is not defined, by a tap of a kind that it accepts, in words that follow
            the tap's name; "" = it does teach.
        described: a word of the plan for what it does to the tap first.
        levels: the tensors of the tap that it compares, by their number; empty = all.
        memory: how many samples of earlier batches, kept without gradient, come to those of each batch.
    """

    make: Callable[[CfgNode, TapSpec, bool], nn.Module]
    tap: str | Callable[[CfgNode], str]
    keys: Mapping[str, Key | Any] = field(default_factory=dict)
    weight: float = 0.0
    kinds: tuple[Kind, ...] = ("maps",)
    logits: bool = False
    spatial: bool = False
    padding: bool = False
    no_rows: bool = False
    targets: Targets = ""
    adapt: Literal["where channels differ", "always", "never"] = "where channels differ"
    adapter: Callable[[CfgNode, Kind, int, int], nn.Module] = lambda _, *given: linear(*given)
    learned: Callable[[CfgNode, int], nn.Module] | None = None
    auxiliary: bool = True
    title: str = ""
    unfit: Callable[[CfgNode, TapSpec], str] = lambda *_: ""
    described: Callable[[CfgNode], str] = lambda _: ""
    levels: Callable[[CfgNode], Sequence[int]] = lambda _: ()
    memory: Callable[[CfgNode], int] = lambda _: 0
