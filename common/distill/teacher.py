"""The frozen teacher: what holds it, and how it gives its taps for a batch.

teacher.begin(samples) is called before the student's forward pass, and returns a Pending. Once the student's tensors
are there, the teacher's are asked of it. A kept teacher (DISTILL.TEACHER.CACHE) takes part in the same contract, where
what is kept replaces what would be computed:

- detectors' maps: Teacher.maps (det/teacher/kept.py);
- detectors' boxes: the TapGroup, as its class logits come from no maps (det/cache/boxes.py);
- logits of segmentation: Pending, which looks up the student's places in whole images (seg/teacher/kept.py).
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Generic, TypeVar

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from densedist.common.distill.classes import ClassMap
from densedist.common.distill.speed import KEY, fuse_batch_norms, refuse_with_cache
from densedist.common.distill.views import seen_by_teacher
from densedist.common.errors import UserError

M = TypeVar("M", bound=nn.Module)
Maps = dict[str, Tensor]  # (N, C, h, w), by name
# "image" of each is raw (3, H, W), 0 to 255; "teacher_image", where a sample has it, is what its teacher sees.
Samples = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class TeacherModel(Generic[M]):
    """A teacher's model before a Teacher holds it.

    Args:
        model: with its weights.
        flipped: it wants the student's images with their channels the other way round.
        classes: how its classes become the student's; None = they are the same.
        average: see Teacher.
    """

    model: M
    flipped: bool
    classes: ClassMap | None
    average: nn.Module | None = None


class Teacher(Generic[M]):
    """Holds a frozen model in eval mode.

    Not an nn.Module on purpose: a student that keeps its teacher as an attribute shows nothing of it in
    parameters(), state_dict(), train() or to(), hence neither does its optimizer, DDP or checkpoint.
    """

    stream: torch.cuda.Stream | None = None  # of a GPU, where it has another one than the student

    def __init__(
        self,
        model: M,
        flip_channels: bool = False,
        precision: torch.dtype = torch.float32,
        average: nn.Module | None = None,
    ) -> None:
        """Freeze a model: put it in eval mode, and fuse its batch norms.

        Args:
            model: is changed in place.
            flip_channels: the images come in the other channel order (BGR for RGB) than the model wants.
            precision: of its weights and its taps.
            average: the part of it that is the student's average (see common/distill/average.py): it is as the student,
                its batch norms not fused, and the engine updates it. None = nothing of it ever changes.
        """
        self.flip_channels, self.precision, self.average = flip_channels, precision, average
        if average is None:
            fuse_batch_norms(model)
        # Channels last: the same values to rounding, in about half the time on a CPU.
        self.model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        for part in model.children():  # the pixels' mean and deviation, the model's own, keep float32
            part.to(precision)

    @property
    def models(self) -> list[M]:
        """Return all models that teach, this one first."""
        return [self.model]

    @property
    def device(self) -> torch.device:
        return next(chain(self.model.parameters(), self.model.buffers())).device

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Compute, within the block, without gradients and in the teacher's precision, whatever the student's is."""
        # Not inference_mode: autograd refuses to save such tensors, which losses on the taps need.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            yield

    def begin(self, samples: Samples) -> "Pending":
        """Return what gives the teacher's tensors for a batch; see Pending for when the model runs. To be called before
        the student's forward pass."""
        return Pending(self, samples)

    def maps(self, samples: Samples) -> Maps:
        """Return what the model gives for the images of a batch, or what is kept of it."""
        return self.live_maps(seen_by_teacher(samples))

    def live_maps(self, images: Sequence[Tensor]) -> Maps:
        """Return what the model gives for raw images (3, H, W), 0 to 255, in the student's channel order."""
        raise NotImplementedError

    @contextmanager
    def overflows(self) -> Iterator[list[str]]:
        """Collect, within the block, the names of the model's parts that give numbers that are not finite, the first
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

    def in_channel_order(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return images (3, H, W) of the student's channel order in the teacher's."""
        return [image.flip(0) for image in images] if self.flip_channels else list(images)

    def in_float32(self) -> M:
        """Return the model for whole predictions, whose last steps need float32: itself, or a copy."""
        return self.model if self.precision == torch.float32 else copy.deepcopy(self.model).float()

    def __deepcopy__(self, memo: dict) -> "Teacher[M]":
        return self  # a copy of the student (an average of its weights, say) learns from the same teacher


class Pending:
    """A batch that a teacher is asked about.

    With a stream (DISTILL.TEACHER.STREAM) the model has been started on it, next to the student's forward pass. Without
    one it runs when `maps` is first read, after the student's.

    Args:
        teacher: whose maps are asked for.
        samples: the batch, as the student gets it.
    """

    def __init__(self, teacher: Any, samples: Samples) -> None:
        self.teacher, self.samples = teacher, samples
        self._finish = _start(lambda: teacher.maps(samples), teacher.stream)

    @cached_property
    def maps(self) -> Maps:
        """Return the teacher's maps of the batch, by name. The first to read them waits for the model; it runs once."""
        return self._finish()


def _start(run: Callable[[], Maps], stream: torch.cuda.Stream | None) -> Callable[[], Maps]:
    """Return what gives the maps of run: run itself, or with a stream, on which run starts now, what waits for it."""
    if stream is None:
        return run
    stream.wait_stream(torch.cuda.current_stream(stream.device))  # the images may still be on their way
    with torch.cuda.stream(stream):
        maps = run()
    return lambda: _join(maps, stream)


def _join(maps: Maps, stream: torch.cuda.Stream) -> Maps:
    """Return the maps, for the current stream to use."""
    current = torch.cuda.current_stream(stream.device)
    current.wait_stream(stream)
    for x in maps.values():
        x.record_stream(current)  # their memory is not the teacher's again before it has used them
    return maps


def teacher_stream(cfg: CfgNode) -> torch.cuda.Stream | None:
    """Return the stream that DISTILL.TEACHER.STREAM asks for, None without one.

    Raises:
        UserError: without a GPU, or the teacher does not run in training.
    """
    if not cfg.DISTILL.TEACHER.STREAM:
        return None
    refuse_with_cache(cfg, "STREAM")
    device = torch.device(cfg.MODEL.DEVICE)
    if device.type != "cuda":
        raise UserError(f"{KEY}.STREAM needs a GPU, and MODEL.DEVICE is {device}: set it to False")
    return torch.cuda.Stream(device)


def precision(student_cfg: CfgNode) -> torch.dtype:
    """Return the type that DISTILL.TEACHER.PRECISION names, on the student's device."""
    name = student_cfg.DISTILL.TEACHER.PRECISION
    if name == "auto":
        # float16 rounds 8 times finer than bfloat16; what overflows it ends in a loss that is not finite.
        name = "float16" if torch.device(student_cfg.MODEL.DEVICE).type == "cuda" else "float32"
    return getattr(torch, name)
