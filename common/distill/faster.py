"""A teacher that sees each batch, made faster: its parts compiled, and on a stream of the GPU beside the student."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from densedist.common.errors import UserError

KEY = "DISTILL.TEACHER"
Maps = dict[str, Tensor]
Part = tuple[nn.Module, str]  # a module within another, and its name there


def compile_parts(cfg: CfgNode, parts: Sequence[Part]) -> None:
    """Put what torch.compile makes of the parts in their place, if DISTILL.TEACHER.COMPILE says so; the values are the
    same to rounding.

    Raises:
        UserError: there is no part, or the teacher does not run in training.
    """
    if not cfg.DISTILL.TEACHER.COMPILE:
        return
    _check_runs(cfg, "COMPILE")
    if not parts:
        raise UserError(f"{KEY}.COMPILE: it is not known how to compile such a teacher: set it to False")
    for owner, name in parts:
        setattr(owner, name, torch.compile(getattr(owner, name)))


def own_stream(cfg: CfgNode) -> torch.cuda.Stream | None:
    """The stream that DISTILL.TEACHER.STREAM asks for.

    Raises:
        UserError: without a GPU, or the teacher does not run in training.
    """
    if not cfg.DISTILL.TEACHER.STREAM:
        return None
    _check_runs(cfg, "STREAM")
    device = torch.device(cfg.MODEL.DEVICE)
    if device.type != "cuda":
        raise UserError(f"{KEY}.STREAM needs a GPU, and MODEL.DEVICE is {device}: set it to False")
    return torch.cuda.Stream(device)


def begin(run: Callable[[], Maps], stream: torch.cuda.Stream | None) -> Callable[[], Maps]:
    """What gives the result of run, which starts now on a stream, or without one when it is asked for."""
    if stream is None:
        return run
    stream.wait_stream(torch.cuda.current_stream(stream.device))  # the images may still be on their way
    with torch.cuda.stream(stream):
        maps = run()
    return partial(_join, maps, stream)


def _join(maps: Maps, stream: torch.cuda.Stream) -> Maps:
    """The maps, for the current stream to use."""
    current = torch.cuda.current_stream(stream.device)
    current.wait_stream(stream)
    for x in maps.values():
        x.record_stream(current)  # their memory is not the teacher's again before it has used them
    return maps


def _check_runs(cfg: CfgNode, key: str) -> None:
    if cfg.DISTILL.TEACHER.CACHE:
        raise UserError(f"{KEY}.{key}: with CACHE the teacher does not see the batches: set it to False")
