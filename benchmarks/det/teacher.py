"""The Cascade X101 teacher's taps, beside its full inference on the same images."""

from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import Instances
from torch import Tensor

from benchmarks.det.models import config, random_boxes, random_image, random_model
from densedist.common.profile import Step, extra_bytes, medians, report
from densedist.det.modeling import box_head
from densedist.det.taps.rois import live_class_logits
from densedist.det.teacher.teacher import DetTeacher

SIZE = (512, 832)
ROIS = 512  # an image, as the student samples them


@dataclass(frozen=True)
class Result:
    """Seconds, bytes of tensors beyond the weights, and the logits' distance to float64, relative to the largest."""

    name: str
    seconds: float
    memory: int
    error: float | None


def main(device: torch.device, file: Path | None, size: tuple[int, int] | None) -> None:
    """Measure; print a table, write everything to file as JSON.

    Args:
        size: height and width of the image; None = SIZE.
    """
    results = measure(device, size or SIZE)
    title = f"Cascade Mask R-CNN X101, an image of {size or SIZE}"
    report(title, table(results), [asdict(result) for result in results], device, file)


def measure(device: torch.device, size: tuple[int, int]) -> list[Result]:
    """Full inference that finds nothing, full inference that finds all it may, and the taps in each precision."""
    plain = random_model(config("cascade_mask_rcnn_x101.yaml", device)).eval()
    image, boxes = random_image(size, 0), [random_boxes(size, ROIS, 0).to(device)]
    exact = _logits(deepcopy(plain).double(), image, boxes)
    busy = deepcopy(plain)
    predictors: list[Any] = box_head.predictors(busy.roi_heads)
    for predictor in predictors:
        predictor.cls_score.bias.data[0] += 5  # each of its proposals is one of the first class
    precisions = [torch.float32] + ([torch.float16] if device.type == "cuda" else [])
    teachers = {f"ours, {str(p).removeprefix('torch.')}": DetTeacher(deepcopy(plain), precision=p) for p in precisions}
    steps: dict[str, Step] = {
        "full inference, nothing found": lambda: _inference(plain, image),
        f"full inference, {len(_inference(busy, image))} objects found": lambda: _inference(busy, image),
    }
    errors = {"full inference, nothing found": _distance(_logits(plain, image, boxes), exact)}
    for name, teacher in teachers.items():
        steps[name] = partial(live_class_logits, teacher, [image], [boxes])
        (logits,) = live_class_logits(teacher, [image], [boxes])
        errors[name] = _distance(logits, exact)
    seconds = medians(steps, device)
    return [Result(name, seconds[name], extra_bytes(step, device), errors.get(name)) for name, step in steps.items()]


@torch.no_grad()
def _inference(model: GeneralizedRCNN, image: Tensor) -> Instances:
    return model([{"image": image, "height": image.shape[1], "width": image.shape[2]}])[0]["instances"]


@torch.no_grad()
def _logits(model: GeneralizedRCNN, image: Tensor, boxes: list) -> Tensor:
    return box_head.cls_logits(
        model.roi_heads, model.backbone(model.preprocess_image([{"image": image}]).tensor), boxes, "first"
    )


def _distance(logits: Tensor, exact: Tensor) -> float:
    return float((logits - exact).abs().max() / exact.abs().max())


def table(results: list[Result]) -> list[dict[str, str]]:
    """One line each, with the ratios to both full inferences."""
    nothing, found = results[:2]
    return [
        {
            "teacher": r.name,
            "ms": f"{1e3 * r.seconds:.3g}",
            "/ nothing found": f"{r.seconds / nothing.seconds:.2f}",
            "/ objects found": f"{r.seconds / found.seconds:.2f}",
            "extra memory, MB": f"{r.memory / 1e6:.0f}",
            "error": "" if r.error is None else f"{r.error:.0e}",
        }
        for r in results
    ]
