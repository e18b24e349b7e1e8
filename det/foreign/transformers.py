"""Detectors of Hugging Face's transformers: boxes as the library's own processors give them."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

from torch import Tensor
from torchvision.ops import box_convert

from densedist.common.errors import UserError
from densedist.common.foreign.transformers import Folder, open_folder
from densedist.det.foreign import masks
from densedist.det.foreign.detector import Found, Size, blank, probabilities
from densedist.det.foreign.processed import ProcessedDetector
from densedist.det.foreign.zero_shot import Prompts

DETECTS, POST = "ForObjectDetection", "post_process_object_detection"


class TransformersDetector(ProcessedDetector):
    """A model of boxes.

    Args:
        names, least, most, source, processor: see ProcessedDetector.
        model: …ForObjectDetection.
        prompts: of a zero-shot model; None = its classes are fixed.
    """

    def __init__(
        self,
        names: Sequence[str],
        least: float,
        most: int,
        source: str,
        model: Any,
        processor: Any,
        prompts: Prompts | None = None,
    ) -> None:
        beside = prompts.of_processor() if prompts else {}
        super().__init__(names, least, most, source, model, processor, beside)
        self.prompts = prompts
        self.identity = {**self.identity, "prompts": prompts and prompts.texts}

    def find(self, images: Sequence[Tensor], sizes: Sequence[Size]) -> list[Found]:
        return self.in_batches(images, sizes, self._found)

    def find_softly(self, images: Sequence[Tensor], sizes: Sequence[Size]) -> list[Found]:
        """Find a box for each query, with the logits of all classes, of which the library's post-processing keeps one.

        A model whose scores it computes otherwise (use_focal_loss False) has that one alone.
        """
        others = self.prompts or self._focal is False
        return self.in_batches(images, sizes, self._found if others else self._queries)

    def try_out(self) -> None:
        super().try_out()
        if not self.prompts:
            outputs = self.model(**self.inputs(blank()))
            # Only what goes through a softmax has a column for no object.
            self.activation = "softmax" if outputs.logits.shape[2] > self.model.config.num_labels else "sigmoid"

    @property
    def _focal(self) -> bool | None:
        return getattr(self.model.config, "use_focal_loss", None)

    def _found(self, batch: Mapping[str, Tensor], sizes: Sequence[Size]) -> list[Found]:
        outputs = self.model(**batch)
        target = {"threshold": self.least, "target_sizes": list(sizes)}
        if self.prompts:
            return self.prompts.found(self.processor, outputs, target)
        post = getattr(self.processor, POST)
        if self._focal is not None and "use_focal_loss" in signature(post).parameters:
            target["use_focal_loss"] = self._focal
        return [Found(one["boxes"], one["scores"], one["labels"]) for one in post(outputs, **target)]

    def _queries(self, batch: Mapping[str, Tensor], sizes: Sequence[Size]) -> list[Found]:
        outputs = self.model(**batch)
        logits, corners = outputs.logits.float(), box_convert(outputs.pred_boxes.float(), "cxcywh", "xyxy")
        if self.activation == "softmax":
            logits = logits[..., :-1] - logits[..., -1:]
        scores, labels = probabilities(logits, self.activation).max(2)
        whole = corners.new_tensor([[width, height] * 2 for height, width in sizes])
        return list(map(Found, corners * whole[:, None], scores, labels, logits))


def load(path: str, key: str, asked: Sequence[str], least: float, most: int) -> ProcessedDetector:
    """Load the detector in a folder of save_pretrained, of boxes or of masks, in float32, with its processor.

    Args:
        key: what names the folder, for messages.
        asked: what a zero-shot model is asked for, a prompt a class.
        least, most: see ForeignDetector.

    Raises:
        UserError: no such folder, a model that finds no objects, a zero-shot model that is asked for nothing, no
            processor, or the package transformers is missing.
    """
    folder = open_folder(path, key)
    if masks.builder(folder):
        return masks.load(folder, least, most)
    if not folder.architecture.endswith(DETECTS):
        raise UserError(
            f"{folder.source} holds {folder.architecture}, which finds no boxes: want one …{DETECTS}, "
            "…ForUniversalSegmentation or …ForInstanceSegmentation"
        )
    zero_shot = _is_zero_shot(folder)
    if zero_shot and not asked:
        raise UserError(
            f"{folder.source} holds {folder.architecture}, which finds what it is asked for: name the classes in "
            "DATASETS.CLASSES, and in DISTILL.TEACHER.CLASSES what to ask for where names alone do not do"
        )
    processor = folder.load_processor("AutoProcessor" if zero_shot else "AutoImageProcessor")
    if not zero_shot and not hasattr(processor, POST):
        raise UserError(
            f"{folder.source}: {type(processor).__name__} has no {POST}, so nothing says where its boxes are: such a "
            "model can label as a function"
        )
    model = folder.load(f"AutoModelFor{'ZeroShot' if zero_shot else ''}ObjectDetection")
    prompts = Prompts.of(asked, processor, model.config, folder.source) if zero_shot else None
    names = asked if zero_shot else folder.names or [str(n) for n in range(model.config.num_labels)]
    return TransformersDetector(names, least, most, folder.source, model, processor, prompts)


def _is_zero_shot(folder: Folder) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES as ZERO_SHOT

    return folder.architecture in ZERO_SHOT.values()
