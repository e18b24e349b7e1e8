"""Exports of a trained detector: weights for stock Detectron2, ONNX, TorchScript."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401  # brings the operators of a loaded TorchScript
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog
from detectron2.export import TracingAdapter
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor

from densedist.common.data.headers import Size
from densedist.common.data.images import first_images, images_in
from densedist.common.errors import UserError, one_line
from densedist.common.export import (
    DESCRIPTION,
    INSIDE,
    OPSET,
    Compared,
    Description,
    Exporter,
    Figure,
    describe,
    in_words,
    needing_images,
    stretched,
    write_description,
)
from densedist.common.export_card import FOLDER, write_card
from densedist.common.run_files import Weights
from densedist.common.runtimes import Graph
from densedist.common.task import ImageSource
from densedist.det.config import add_distill_config
from densedist.det.data.reading import Mapper, read_input
from densedist.det.datasets import test_dataset
from densedist.det.evaluation import average_precision
from densedist.det.models import Trained, has_stock_backbone, load_trained, plain_model, refuse_foreign, stock_config

# The most that an export may differ from PyTorch, in pixels, in scores of 0 to 1 and in percent: float32 rounds
# otherwise in another order of the same sums.
BOXES, SCORES, AP = 0.05, 1e-3, 0.01
OUTPUTS = ("boxes", "scores", "classes")
# What loads weights in stock Detectron2.
LOADING = [
    "from detectron2.checkpoint import DetectionCheckpointer",
    "from detectron2.config import get_cfg",
    "from detectron2.modeling import build_model",
]


@dataclass(frozen=True)
class Detections:
    """Detections in an image: boxes (R, 4) as x0, y0, x1, y1 in its pixels, scores (R,), class numbers (R,)."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


# uint8 (3, H, W) -> Detections
Run = Callable[[Tensor], Detections]


class DetExporter(Exporter[Run]):
    """A trained detector that is exported, on the CPU.

    Args:
        samples: {"image": uint8 (3, H, W), "height", "width", "image_id"} of Detectron2's mapper.
        dataset: the name of the data set that the samples are of, empty if they have no annotations.
        compared: what the samples are.
        size: of the samples, the only one that graphs take; None = they take any.
    """

    def __init__(
        self, trained: Trained, samples: Sequence[dict], dataset: str, compared: Compared, size: Size | None = None
    ) -> None:
        self.size, self.shape = size, (3, *size) if size else None
        self.trained, self.samples, self.dataset, self.compared = trained, samples, dataset, compared
        self.model, self.about = trained.model, _describe(trained)
        self.graph = self.about | {
            "exported": "boxes, scores and classes; masks stay in PyTorch" if trained.cfg.MODEL.MASK_ON else "all",
            "input": f"image: uint8 {tuple(self.shape)}, stretched before to this size"
            if self.shape
            else "image: uint8 (3, H, W), resized before, so that its shortest side is shortest_side",
            "output": "boxes: float32 (R, 4), x0, y0, x1, y1 in the input's pixels; scores: float32 (R,); "
            "classes: int64 (R,)",
        }

    def write_weights(self, output: Path) -> Run:
        """Write {"model": state dict}, and the config that builds the model in stock Detectron2."""
        return _write_weights(self.trained, output)

    def write_torch(self, output: Path) -> Run:
        file = output / "model.ts"
        adapter = self._adapter()
        try:
            traced: Any = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
        except Exception as error:
            raise _refusal(self.trained, "torch", error) from error
        torch.jit.save(traced, str(file), {DESCRIPTION: json.dumps(self.graph)})
        run = torch.jit.load(str(file))
        return lambda image: Detections(*run(image))

    def write_onnx(self, file: Path) -> None:
        adapter = self._adapter()
        sizes = {"image": {1: "height", 2: "width"}} | {name: {0: "detections"} for name in OUTPUTS}
        try:
            torch.onnx.export(
                adapter,
                adapter.flattened_inputs,
                str(file),
                input_names=["image"],
                output_names=list(OUTPUTS),
                opset_version=OPSET,
                dynamic_axes=sizes,
                dynamo=False,  # the newer one cannot follow numbers of boxes that depend on the image
            )
        except Exception as error:  # PyTorch's own kinds are many
            raise _refusal(self.trained, "onnx", error) from error

    def running(self, graph: Graph) -> Run:
        def run(image: Tensor) -> Detections:
            boxes, scores, classes = map(torch.from_numpy, graph(image.numpy()))
            there = scores > 0  # where nothing is found OpenVINO gives one box, of the score 0 and no class
            return Detections(boxes[there], scores[there], classes[there])

        return run

    def read(self, file: Path) -> Tensor:
        """Read an image (3, H, W), as the student is evaluated."""
        return stretched(read_input(self.trained.cfg, file)[0]["image"], self.size)

    def step(self, pixels: np.ndarray) -> Callable[[], Detections]:
        image = torch.from_numpy(pixels)
        return lambda: in_pytorch(self.trained, image)

    def compare(self, run: Run) -> list[Figure]:
        """Compare what an export finds in images with what the model itself finds.

        Args:
            run: runs the export.

        Returns:
            how many images have another number of detections; the largest difference of a box and of a score; with
            annotations both APs in percent and their difference.
        """
        ours = [in_pytorch(self.trained, sample["image"]) for sample in self.samples]
        theirs = [run(sample["image"]) for sample in self.samples]
        pairs = list(zip(ours, theirs, strict=True))
        distances = [_distance(a, b) for a, b in pairs]
        figures = [
            Figure("detections", sum(len(d.boxes) for d in ours)),
            Figure("images with another number of detections", sum(len(a.boxes) != len(b.boxes) for a, b in pairs), 0),
            Figure("largest difference of a box, px", max(box for box, _ in distances), BOXES),
            Figure("largest difference of a score", max(score for _, score in distances), SCORES),
        ]
        if self.dataset:
            before, after = map(self._average_precision, (ours, theirs))
            # Not a number where nothing is found or nothing is there: the same in both.
            same = math.isnan(before) and math.isnan(after)
            figures += [Figure("AP in PyTorch", before), Figure("AP", after)]
            figures += [Figure("difference of AP", 0.0 if same else abs(before - after), AP)]
        return figures

    def _average_precision(self, detections: Sequence[Detections]) -> float:
        """Return COCO's AP in percent on the samples alone."""
        outputs = []
        for sample, found in zip(self.samples, detections, strict=True):
            instances = Instances(tuple(sample["image"].shape[1:]))
            instances.pred_boxes, instances.scores = Boxes(found.boxes), found.scores
            instances.pred_classes = found.classes
            outputs.append({"instances": detector_postprocess(instances, sample["height"], sample["width"])})
        return average_precision(self.trained.cfg, self.dataset, self.samples, outputs)

    def _adapter(self) -> TracingAdapter:
        """Build a module from an image to OUTPUTS that PyTorch can trace."""
        model: Any = plain_model(self.trained.model, self.trained.cfg).requires_grad_(False)
        return TracingAdapter(model, [{"image": self.samples[0]["image"]}], _infer)


def exporter(student: Weights, source: ImageSource, size: Size | None = None) -> DetExporter:
    """Load a plain student to export it; of DATASETS.TEST the first data set is compared on."""
    # On the CPU, as a trace from a GPU keeps the GPU's number.
    trained = load_trained(student.under("MODEL.DEVICE", "cpu"))
    refuse_foreign(trained.cfg)
    with needing_images():
        dataset = "" if source.folder else test_dataset(trained.cfg)
    dicts, compared = _chosen(trained.cfg, dataset, source, size)
    mapper = Mapper(trained.cfg, is_train=False)
    samples = [x | {"image": stretched(x["image"], size)} for x in map(mapper, dicts)]
    return DetExporter(trained, samples, dataset, compared, size)


@torch.no_grad()
def in_pytorch(trained: Trained, image: Tensor) -> Detections:
    """Run the model itself on an image (3, H, W), uint8."""
    found = trained.model([{"image": image}])[0]["instances"]
    return Detections(found.pred_boxes.tensor, found.scores, found.pred_classes)


def _distance(ours: Detections, theirs: Detections) -> tuple[float, float]:
    """Return how far boxes and scores lie, at most, from those of the nearest detection of the same class."""
    if not len(ours.boxes) or not len(theirs.boxes):
        return (0.0, 0.0) if len(ours.boxes) == len(theirs.boxes) else (math.inf, math.inf)
    boxes = (ours.boxes[:, None] - theirs.boxes[None]).abs().amax(2)
    boxes[ours.classes[:, None] != theirs.classes[None]] = math.inf
    scores = (ours.scores[:, None] - theirs.scores[None]).abs()
    worst_box = worst_score = 0.0
    for side in (1, 0):
        nearest = boxes.min(side)
        worst_box = max(worst_box, float(nearest.values.max()))
        worst_score = max(worst_score, float(scores.gather(side, nearest.indices.unsqueeze(side)).max()))
    return worst_box, worst_score


def _chosen(cfg: CfgNode, dataset: str, source: ImageSource, size: Size | None) -> tuple[list[dict], Compared]:
    """Return the dicts of the images that are compared on, and what they are in words."""
    if source.folder:
        there: list[dict] = [{"file_name": str(file)} for file in images_in(source.folder)]
        first_images(source.folder, source.count)  # refuses what cannot be read
    else:
        there = DatasetCatalog.get(dataset)
    dicts = there[: source.count]
    sides = f"shortest side {cfg.INPUT.MIN_SIZE_TEST} pixels, longest at most {cfg.INPUT.MAX_SIZE_TEST}"
    seen = in_words(size) if size else f"each resized as by eval ({sides})"
    files = [Path(d["file_name"]) for d in dicts]
    return dicts, Compared(files, len(there), str(source.folder or dataset), seen)


def _describe(trained: Trained) -> Description:
    cfg = trained.cfg
    return describe("detection", stock_config(cfg).MODEL.META_ARCHITECTURE, trained.classes, cfg) | {
        "shortest_side": cfg.INPUT.MIN_SIZE_TEST,
        "longest_side_at_most": cfg.INPUT.MAX_SIZE_TEST,
        "normalization": INSIDE,
    }


def _describe_weights(trained: Trained) -> Description:
    cfg = trained.cfg
    needs = "Detectron2"
    if not has_stock_backbone(cfg):
        needs += ", and of dense-dist its backbones: from densedist import det; det.add_distill_config(cfg) first"
    if cfg.IMPORTS:
        needs += f"; import {', '.join(Path(name).name for name in cfg.IMPORTS)}"
    more = {"pred_masks": cfg.MODEL.MASK_ON, "pred_keypoints": cfg.MODEL.KEYPOINT_ON}
    fields = ", ".join(["pred_boxes", "scores", "pred_classes", *(name for name, there in more.items() if there)])
    return _describe(trained) | {
        "needs": needs,
        "input": '[{"image": uint8 or float32 (3, H, W)}], resized before, so that its shortest side is shortest_side',
        "output": f'[{{"instances": {fields}}}], in the input\'s pixels; with "height" and "width" beside "image", in '
        "the pixels of an image of that size",
        "files": "model.pth: for MODEL.WEIGHTS; config.yaml",
    }


def _write_weights(trained: Trained, output: Path) -> Run:
    folder, is_stock = output / "weights", has_stock_backbone(trained.cfg)
    folder.mkdir(exist_ok=True)
    file, config = folder / "model.pth", folder / "config.yaml"
    torch.save({"model": plain_model(trained.model, trained.cfg).state_dict()}, file)
    config.write_text(stock_config(trained.cfg).dump())
    description = _describe_weights(trained)
    write_description(folder, description)
    imports = LOADING if is_stock else [*LOADING, "from densedist import det"]
    code = ["cfg = get_cfg()"] if is_stock else ["cfg = get_cfg()", "det.add_distill_config(cfg)"]
    code += [f'cfg.merge_from_file("{FOLDER}/config.yaml")', 'cfg.MODEL.DEVICE = "cpu"  # or "cuda"']
    code += ["model = build_model(cfg).eval()", f'DetectionCheckpointer(model).load("{FOLDER}/model.pth")']
    write_card(folder, description, "detectron2", "object-detection", imports, code)
    cfg = get_cfg()
    if not is_stock:
        add_distill_config(cfg)
    cfg.merge_from_file(str(config))
    model = build_model(cfg).eval()
    DetectionCheckpointer(model).load(str(file))
    return lambda image: in_pytorch(Trained(cfg, model, trained.classes), image)


def _infer(model: Any, inputs: list[dict]) -> tuple[Tensor, Tensor, Tensor]:
    found = model.forward(inputs)[0]["instances"]
    return found.pred_boxes.tensor, found.scores, found.pred_classes


def _refusal(trained: Trained, name: str, error: Exception) -> UserError:
    return UserError(
        f"--format {name}: PyTorch cannot export this {stock_config(trained.cfg).MODEL.META_ARCHITECTURE} "
        f"({one_line(error)}); Faster R-CNN, Cascade R-CNN and RetinaNet work, and --format weights for every model"
    )
