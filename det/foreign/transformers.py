"""Detectors of Hugging Face's transformers: boxes as the library's own processors give them."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert

from densedist.common.errors import UserError
from densedist.common.foreign.transformers import Folder, open_folder
from densedist.det.foreign.detector import ForeignDetector, Found, Size, blank, probabilities
from densedist.det.foreign.zero_shot import Prompts

DETECTS, POST = "ForObjectDetection", "post_process_object_detection"


class TransformersDetector(ForeignDetector):
    """A model of transformers between the two halves of its processor. Images are in RGB, of any size.

    Each image goes alone through the processor, and those that come out of one size go together through the model: so
    what is found does not depend on the other images.

    Args:
        names, least, most, source: see ForeignDetector.
        model: …ForObjectDetection.
        processor: makes its inputs of an image, and boxes of its outputs.
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
        super().__init__(names, least, most, source)
        self.model, self.processor, self.prompts = model, processor, prompts
        of_images = getattr(processor, "image_processor", processor)
        self.identity = {"processor": of_images.to_json_string(), "prompts": prompts and prompts.texts}

    def find(self, images: Sequence[Tensor], sizes: Sequence[Size]) -> list[Found]:
        return self._in_batches(images, sizes, self._found)

    def find_softly(self, images: Sequence[Tensor], sizes: Sequence[Size]) -> list[Found]:
        """Find a box for each query, with the logits of all classes, of which the library's post-processing keeps one.

        A model whose scores it computes otherwise (use_focal_loss False) has that one alone.
        """
        others = self.prompts or self._focal is False
        return self._in_batches(images, sizes, self._found if others else self._queries)

    def try_out(self) -> None:
        super().try_out()
        if not self.prompts:
            outputs = self.model(**self._inputs(blank()))
            # Only what goes through a softmax has a column for no object.
            self.activation = "softmax" if outputs.logits.shape[2] > self.model.config.num_labels else "sigmoid"

    @property
    def _focal(self) -> bool | None:
        return getattr(self.model.config, "use_focal_loss", None)

    def _in_batches(
        self,
        images: Sequence[Tensor],
        sizes: Sequence[Size],
        ask: Callable[[Mapping[str, Tensor], Sequence[Size]], list[Found]],
    ) -> list[Found]:
        """Ask for what is found in images that come out of the processor in one size, together.

        Args:
            ask: gives it for the inputs of a batch and the sizes of its images.
        """
        inputs = [self._inputs(image) for image in images]
        alike: dict[Any, list[int]] = defaultdict(list)
        for number, one in enumerate(inputs):
            alike[tuple((name, value.shape) for name, value in one.items())].append(number)
        found: dict[int, Found] = {}
        for numbers in alike.values():
            batch = {name: torch.cat([inputs[n][name] for n in numbers]) for name in inputs[numbers[0]]}
            found |= zip(numbers, ask(batch, [sizes[n] for n in numbers]), strict=True)
        return [found[number] for number in range(len(images))]

    def _inputs(self, image: Tensor) -> dict[str, Tensor]:
        """Return what the model takes for one image; the first dimension of each tensor counts images, or prompts."""
        picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
        texts = self.prompts.of_processor() if self.prompts else {}
        given = self.processor(images=picture, return_tensors="pt", **texts)
        weight = next(self.model.parameters())
        return {
            name: value.to(weight.device, weight.dtype if value.is_floating_point() else None)
            for name, value in given.items()
            if isinstance(value, Tensor)
        }

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


def load(path: str, key: str, asked: Sequence[str], least: float, most: int) -> TransformersDetector:
    """Load the detector in a folder of save_pretrained, in float32, with its processor.

    Args:
        key: what names the folder, for messages.
        asked: what a zero-shot model is asked for, a prompt a class.
        least, most: see ForeignDetector.

    Raises:
        UserError: no such folder, a model that finds no boxes, a zero-shot model that is asked for nothing, no
            processor, or the package transformers is missing.
    """
    folder = open_folder(path, key)
    if not folder.architecture.endswith(DETECTS):
        raise UserError(f"{folder.source} holds {folder.architecture}, which finds no boxes: want one …{DETECTS}")
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
