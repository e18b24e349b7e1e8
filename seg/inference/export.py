"""Exports of a trained segmentation model: SMP's own folder, ONNX, torch.export."""

import inspect
import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from detectron2.config import CfgNode
from segmentation_models_pytorch.base import SegmentationModel
from torch import Tensor
from torch.export import Dim, ExportedProgram

from densedist.common.data.headers import Size
from densedist.common.data.images import first_images, images_in
from densedist.common.errors import UserError, one_line
from densedist.common.export import (
    DESCRIPTION,
    INSIDE,
    OPSET,
    OUTSIDE,
    Compared,
    Description,
    Exporter,
    Figure,
    describe,
    in_words,
    needing_images,
    stretched,
    whole_pixels,
    write_description,
)
from densedist.common.export_card import FOLDER, write_card
from densedist.common.run_files import Weights
from densedist.common.runtimes import Graph
from densedist.common.task import ImageSource
from densedist.seg.data.frames import Frame, bare_frames
from densedist.seg.data.reading import Reader
from densedist.seg.datasets import test_frames
from densedist.seg.evaluation import confusion_matrix, scores
from densedist.seg.inference.deployed import Deployed, with_settled_padding, without_adaptive_pools
from densedist.seg.labels import IGNORE
from densedist.seg.models import Trained, load_trained, smp_network
from densedist.seg.networks.dist_networks import stock
from densedist.seg.networks.network import Network
from densedist.seg.networks.resampling import nearest
from densedist.seg.networks.windows import Inference

# The most that an export may differ from PyTorch, as a part of the largest logit and in percent: float32 rounds
# otherwise in another order of the same sums.
LOGITS, MIOU = 1e-4, 0.01
ROUNDED = "mIoU in PyTorch, resized pixels rounded"
# uint8 (N, 3, H, W) -> logits (N, classes, H, W)
Run = Callable[[Tensor], Tensor]


class SegExporter(Exporter[Run]):
    """A trained segmentation model that is exported, on the CPU.

    Args:
        samples: {"image": uint8 (3, H, W)}, with "sem_seg", trainIds (H, W), where they have labels.
        compared: what the samples are.
        size: of the samples, the only one that graphs take; None = they take any.
    """

    def __init__(self, trained: Trained, samples: Sequence[dict], compared: Compared, size: Size | None = None) -> None:
        self.size, self.shape = size, (1, 3, *size) if size else None
        self.trained, self.samples, self.compared = trained, samples, compared
        self.model = smp_network(trained.model).smp
        self.about = _describe(trained)
        self.graph = self.about | {
            "normalization": INSIDE,
            "input": f"images: uint8 {tuple(self.shape)}, stretched before to this size"
            if self.shape
            else "images: uint8 (N, 3, H, W), any N, H and W, resized before by scale",
            "label_ids": trained.classes.label_ids.tolist(),
            "colors": trained.classes.colors.tolist(),
            "output": "logits: float32 (N, classes, H, W), at the images' size",
        }
        self._reader = Reader(trained.classes, trained.cfg.INPUT.FORMAT)

    def write_weights(self, output: Path) -> Run:
        """Write SMP's own folder, which smp.from_pretrained reads, and the state dict by itself."""
        return _write_weights(self.trained, output, self.samples[0]["image"])

    def write_torch(self, output: Path) -> Run:
        file = output / "model.pt2"
        program = traced(_deployed(self.trained), self.samples[0]["image"])
        torch.export.save(program, file, extra_files={DESCRIPTION: json.dumps(self.graph)})
        return torch.export.load(file).module()

    def write_onnx(self, file: Path) -> None:
        program = traced(without_adaptive_pools(_deployed(self.trained)), self.samples[0]["image"])
        written = torch.onnx.export(
            program, input_names=["images"], output_names=["logits"], opset_version=OPSET, external_data=False
        )
        assert written is not None
        written.save(str(file))

    def running(self, graph: Graph) -> Run:
        return lambda images: torch.from_numpy(graph(images.numpy())[0])

    def read(self, file: Path) -> Tensor:
        """Read an image (1, 3, H, W), as the student is evaluated."""
        image = self._reader(bare_frames({file.stem: file})[0])["image"]
        scale = self.trained.cfg.TEST.SCALES[0]
        height, width = (round(side * scale) for side in image.shape[1:])
        return stretched(image, self.size or (height, width))[None]

    def step(self, pixels: np.ndarray) -> Callable[[], Tensor]:
        images, run = torch.from_numpy(pixels), torch.no_grad()(self.trained.model.logits)
        return lambda: run(images)

    @torch.no_grad()
    def compare(self, run: Run) -> list[Figure]:
        """Compare what an export makes of images with what the model itself does, at the scales of the evaluation.

        An export takes whole pixels. Where images are resized, these are rounded for it; so they are for the model,
        unless its mIoU is to be that of the evaluation.

        Args:
            run: runs the export.

        Returns:
            the largest difference of a logit, relative to the largest logit; the pixels, in percent, whose class
            differs; where there are labels, the mIoUs in percent and their difference.
        """
        model, count = self.trained.model, len(self.trained.classes)
        inference = Inference() if self.size else model.inference
        rounds = any(scale != 1 for scale in inference.scales)
        largest, differences = [0.0], [0.0]

        def logits(view: Tensor) -> Tensor:
            """Return the model's, where pixels are rounded also for these, and the export's."""
            pixels = whole_pixels(view)
            ours, theirs = model.logits(pixels), run(pixels[None])[0]
            if ours.shape != theirs.shape:
                raise ValueError(f"run: got logits {tuple(theirs.shape)}, want {tuple(ours.shape)}")
            largest.append(float(ours.abs().max()))
            differences.append(float((ours - theirs).abs().max()))
            return torch.stack([*([model.logits(view)] if rounds else []), ours, theirs])

        names = ["mIoU in PyTorch", *([ROUNDED] if rounds else []), "mIoU"]
        differing = pixels = 0
        counts = torch.zeros(len(names), count, count, dtype=torch.int64)
        for sample in self.samples:
            classes = inference(logits, sample["image"]).argmax(1)
            ours, theirs = classes[-2:]
            differing, pixels = differing + int((ours != theirs).sum()), pixels + ours.numel()
            truth = sample.get("sem_seg", torch.full_like(ours, IGNORE))
            counts += torch.stack([confusion_matrix(truth, prediction, count) for prediction in classes])
        figures = [
            Figure("largest logit", max(largest)),
            Figure("largest difference of a logit / largest logit", max(differences) / max(largest), LOGITS),
            Figure("pixels of another class, %", 100 * differing / pixels),
        ]
        if counts.any():
            found = [scores(confusion, self.trained.classes.names)["mIoU"] for confusion in counts]
            figures += [Figure(name, value) for name, value in zip(names, found, strict=True)]
            figures += [Figure("difference of the last two", abs(found[-2] - found[-1]), MIOU)]
        return figures


def exporter(student: Weights, source: ImageSource, size: Size | None = None) -> SegExporter:
    """Load a plain student to export it; a model that SMP does not build is refused."""
    # On the CPU, as a trace from a GPU may keep the GPU's number.
    trained = load_trained(student.under("MODEL.DEVICE", "cpu"))
    frames, compared = _chosen(trained.cfg, source, size)
    reader = Reader(trained.classes, trained.cfg.INPUT.FORMAT)
    return SegExporter(trained, [_stretched(reader(frame), size) for frame in frames], compared, size)


def traced(model: Deployed, image: Tensor) -> ExportedProgram:
    """Trace a model, with batch, height and width left open.

    Raises:
        UserError: PyTorch cannot follow this architecture.
    """
    # No two sides alike, and none of 1, which tracing would take for fixed.
    height, width = image.shape[1:]
    example = image.new_zeros(2, 3, height, width + model.divisor * (height == width))
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    try:
        return torch.export.export(model, (example,), dynamic_shapes=(sizes,))
    except Exception as error:  # PyTorch's own kinds are many
        name = type(model.smp).__name__
        raise UserError(
            f"MODEL.ARCHITECTURE: PyTorch cannot export {name} for images of any size ({one_line(error)}); "
            "--format weights works for every architecture, all formats for DeepLabV3, PSPNet, FPN and Unet"
        ) from error


def _chosen(cfg: CfgNode, source: ImageSource, size: Size | None) -> tuple[list[Frame], Compared]:
    """Return the frames that are compared on, and what they are in words."""
    if source.folder:
        frames, there = bare_frames(first_images(source.folder, source.count)), len(images_in(source.folder))
    else:
        with needing_images():
            frames = test_frames(cfg)
            if not frames:
                raise UserError("DATASETS.TEST is empty: name a split")
        frames, there = frames[: source.count], len(frames)
    files = [Path(frame["image"]) for frame in frames]
    seen = in_words(size) if size else f"each predicted as by eval ({_inference(cfg)})"
    return frames, Compared(files, there, str(source.folder or ", ".join(cfg.DATASETS.TEST)), seen)


def _inference(cfg: CfgNode) -> str:
    """Return the keys by which an image is predicted, with their values; those that are off are left out."""
    values = {name: cfg.TEST[name] for name in ("SCALES", "FLIP", "WINDOW_SIZE")}
    return ", ".join(f"TEST.{name} {value}" for name, value in values.items() if value)


def _stretched(sample: dict, size: Size | None) -> dict:
    """Return a sample whose image and labels have another size; None = as it is."""
    if size is None:
        return sample
    labels = {"sem_seg": nearest(sample["sem_seg"][None], size)[0]} if "sem_seg" in sample else {}
    return sample | labels | {"image": stretched(sample["image"], size)}


def _describe(trained: Trained) -> Description:
    architecture = type(trained.model.network.smp).__name__
    return describe("segmentation", architecture, trained.classes.names, trained.cfg) | {
        "scale": trained.cfg.TEST.SCALES[0]
    }


def _write_weights(trained: Trained, output: Path, image: Tensor) -> Run:
    network, folder = smp_network(trained.model), output / "weights"
    plain = stock(network.smp)
    plain.save_pretrained(folder)
    read: Callable[..., SegmentationModel] = type(plain).from_pretrained
    factor = _reduction(network, image)
    if factor > 1 and "upsampling" in inspect.signature(type(plain)).parameters:
        read(str(folder), upsampling=factor).save_pretrained(folder)
        factor = 1  # as users of stock SMP expect it
    again = read(str(folder)).eval()
    torch.save(again.state_dict(), folder / "model.pth")
    loader = "smp" if hasattr(smp, type(plain).__name__) else f"{type(plain).__module__}.{type(plain).__name__}"
    size = "the images' size" if factor == 1 else f"1/{factor:g} of the images' size"
    own = {
        "needs": f"SMP, and of dense-dist {loader}" if loader != "smp" else "SMP",
        "architecture": type(plain).__name__,
        "normalization": OUTSIDE,
        "input": f"float32 (N, 3, H, W), resized before by scale; H and W are multiples of {network.divisor}, after "
        "padding with 0 at the right and the bottom of normalized pixels",
        "output": f"logits: float32 (N, classes, h, w), at {size}",
        "files": f"model.pth: state dict; config.json, model.safetensors: folder for {loader}.from_pretrained",
    }
    description = _describe(trained) | own
    write_description(folder, description)
    module = loader.rpartition(".")[0]
    imports = [f"import {module}" if module else "import segmentation_models_pytorch as smp"]
    code = [f'model = {loader}.from_pretrained("{FOLDER}").eval()']
    write_card(folder, description, "segmentation-models-pytorch", "image-segmentation", imports, code)
    return Deployed(Network(again, trained.cfg.MODEL.PIXEL_MEAN, trained.cfg.MODEL.PIXEL_STD)).eval()


@torch.no_grad()
def _reduction(network: Network, image: Tensor) -> float:
    """Return how many times smaller than the batch the logits are; 1 where that is no whole number."""
    batch = network.preprocess([image])
    height, width = network(batch)["cls_logits"].shape[2:]
    return batch.shape[2] // height if batch.shape[2] % height == 0 == batch.shape[3] % width else 1


def _deployed(trained: Trained) -> Deployed:
    # A copy, as exporters want weights in the usual order of channels.
    network = deepcopy(smp_network(trained.model)).to(memory_format=torch.contiguous_format)
    return with_settled_padding(Deployed(network)).eval().requires_grad_(False)
