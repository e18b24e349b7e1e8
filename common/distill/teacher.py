"""The frozen teacher's holder."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Generic, TypeVar

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from densedist.common.config.shared_keys import PRECISIONS
from densedist.common.distill.speed import begin, fuse_batch_norms

M = TypeVar("M", bound=nn.Module)


class Teacher(Generic[M]):
    """Holds a frozen model in eval mode.

    Not an nn.Module on purpose: a student that keeps its teacher as an attribute shows nothing of it in
    parameters(), state_dict(), train() or to(), hence neither does its optimizer, DDP or checkpoint.
    """

    stream: torch.cuda.Stream | None = None  # beside the student's, where it has one of its own

    def __init__(self, model: M, flip_channels: bool = False, precision: torch.dtype = torch.float32) -> None:
        """
        Args:
            model: it is frozen here, put in eval mode, and its batch norms are fused.
            flip_channels: the images come in the other channel order (BGR for RGB) than the model wants.
            precision: of its weights and its taps.
        """
        self.flip_channels, self.precision = flip_channels, precision
        fuse_batch_norms(model)
        # Channels last: the same values to rounding, in about half the time on a CPU.
        self.model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        for part in model.children():  # the pixels' mean and deviation, the model's own, keep float32
            part.to(precision)

    @property
    def models(self) -> list[M]:
        """All that teach; the model first."""
        return [self.model]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Without gradients and in its own precision, whatever the student's is."""
        # Not inference_mode: autograd refuses to save such tensors, which losses on the taps need.
        device = next(chain(self.model.parameters(), self.model.buffers())).device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):
            yield

    def begin(self, run: Callable[[], dict[str, Tensor]]) -> Callable[[], dict[str, Tensor]]:
        """What gives the maps of run, by name: with a stream of its own it starts now, beside what the student does
        next; else when they are asked for."""
        return begin(run, self.stream)

    @contextmanager
    def overflows(self) -> Iterator[list[str]]:
        """Collects, within the block, the names of the model's parts that give numbers that are not finite, the first
        one first.

        Nothing is collected of a model in float32, which the range of half precision is no trouble to.
        """
        found: list[str] = []
        models = [] if self.precision == torch.float32 else self.models
        parts = [part for model in models for part in model.named_modules()]

        def watch(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                if isinstance(output, Tensor) and not output.isfinite().all():
                    found.append(name)

            return hook

        handles = [part.register_forward_hook(watch(name)) for name, part in parts if name]
        try:
            with torch.compiler.set_stance("force_eager"):  # compiled, the parts would not call the hooks
                yield found
        finally:
            for handle in handles:
                handle.remove()

    def own_order(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Images (3, H, W) in the student's channel order, in the teacher's."""
        return [image.flip(0) for image in images] if self.flip_channels else list(images)

    def in_float32(self) -> M:
        """The model for whole predictions, whose last steps want float32: itself, or a copy."""
        return self.model if self.precision == torch.float32 else copy.deepcopy(self.model).float()

    def __deepcopy__(self, memo: dict) -> "Teacher[M]":
        return self  # a copy of the student (an average of its weights, say) learns from the same teacher


def precision(student_cfg: CfgNode) -> torch.dtype:
    """What DISTILL.TEACHER.PRECISION says, on the student's device."""
    name = student_cfg.DISTILL.TEACHER.PRECISION
    if name == "auto":
        # float16 rounds 8 times finer than bfloat16; what overflows it ends in a loss that is not finite.
        name = "float16" if torch.device(student_cfg.MODEL.DEVICE).type == "cuda" else "float32"
    return PRECISIONS[name]
