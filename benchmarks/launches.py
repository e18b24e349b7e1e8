"""How many operations a step starts on a device, and how often the program waits for it, counted on the CPU.

The step is the one of a plan (common/plan/step.py), on small images: what is counted does not depend on their size.
DIST's passes are taken for what its kernels for GPUs start.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.waits import waits
from densedist.common.data.headers import Size
from densedist.common.logging import quiet
from densedist.common.losses.dist import closed_form
from densedist.common.losses.dist.terms import Slopes, Sums
from densedist.common.plan.step import BACKWARD, HEADS, LOSSES, STUDENT, take_step
from densedist.common.profile import report
from densedist.tasks import task_named

# The distilled rows of the paper.
ROWS = (
    *("det/coco/faster_rcnn_r50_dist.yaml", "det/coco/faster_rcnn_r50_dist_mimic.yaml"),
    *("det/coco/retinanet_r50_dist.yaml", "det/coco/retinanet_r50_dist_mimic.yaml"),
    *("seg/cityscapes/deeplabv3_r18_dist.yaml", "seg/cityscapes/pspnet_r18_dist.yaml"),
)
SIZE = (128, 192)
IMAGES = 2


@dataclass(frozen=True)
class Result:
    """What a step of a recipe starts.

    Args:
        parts: operations by part of the step.
        waits: operations for whose result the program waits, by name; that for the values of the losses comes on top.
    """

    name: str
    parts: dict[str, int]
    waits: dict[str, int]


def main(file: Path | None, size: Size | None) -> None:
    """Count and print; write everything to file as JSON."""
    results = []
    for recipe in ROWS:
        results.append(measure(recipe, size or SIZE))
        print(f"{recipe}: {results[-1].parts}", flush=True)
    report("Operations that a step starts", table(results), [asdict(one) for one in results], torch.device("cpu"), file)


def measure(recipe: str, size: Size, keys: Sequence[str] = ()) -> Result:
    """Count what a step of a recipe starts."""
    task = task_named(recipe.partition("/")[0])
    with TemporaryDirectory() as folder, quiet():
        planned = task.planned(task.read_config(recipe, keys), Path(folder))
        trainee = task.build(planned.cfg)
    batch = planned.batch(size, IMAGES, 0)
    with ExitStack() as stack:
        stack.enter_context(patch.object(closed_form, "_passes", lambda logits: AS_ON_A_GPU))
        seen = stack.enter_context(waits())
        step = take_step(planned, trainee, planned.cfg, batch)
    return Result(recipe, dict(Counter(operator.part for operator in step.operators)), dict(Counter(seen)))


def table(results: Sequence[Result]) -> list[dict[str, str]]:
    """Return a row for each recipe."""
    return [
        {
            "recipe": f"`{r.name.removesuffix('.yaml')}`",
            "student, its losses and the taps": str(r.parts.get(STUDENT, 0)),
            "teacher's heads": str(r.parts.get(HEADS, 0)),
            "losses of distillation": str(r.parts.get(LOSSES, 0)),
            "backward": str(r.parts.get(BACKWARD, 0)),
            "waits": str(sum(r.waits.values())),
        }
        for r in results
    ]


# DIST on a GPU: as many operations as losses/dist/triton_backend.py starts, with nothing to learn.


def _sums(student: Tensor, *_: Any) -> tuple[Sums, None]:
    shift = student.new_zeros(2, student.shape[1])
    partial = student.new_zeros(5 * student.shape[1] + 2)
    total = partial.sum()
    return Sums(total, total, shift, torch.zeros_like(shift)), None


def _finish(sums: Sums, _: Any) -> tuple[Tensor, Slopes]:
    loss = sums.rows * 0
    return loss, Slopes(sums.means, sums.means[0], sums.means[1], sums.rows)


def _gradient(student: Tensor, *_: Any) -> Tensor:
    return torch.zeros_like(student)


AS_ON_A_GPU = SimpleNamespace(sums=_sums, finish=_finish, gradient=_gradient)
