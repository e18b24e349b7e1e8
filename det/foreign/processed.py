"""Models of Hugging Face's transformers between the two halves of their processor: images in, what is found out."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from densedist.det.foreign.detector import ForeignDetector, Found, Size
from densedist.det.foreign.zero_shot import Prompts


class ProcessedDetector(ForeignDetector):
    """A model of transformers that a processor makes inputs for. Images are in RGB, of any size.

    Each image goes alone through the processor, and those that come out of one size go together through the model: so
    what is found does not depend on the other images.

    Args:
        names, least, most, source: see ForeignDetector.
        model: of transformers.
        processor: makes its inputs of an image, and what is found of its outputs.

    Attributes:
        prompts: of a zero-shot model; None = its classes are fixed.
        beside: what the processor takes next to an image, by name.
    """

    prompts: Prompts | None = None

    def __init__(
        self,
        names: Sequence[str],
        least: float,
        most: int,
        source: str,
        model: Any,
        processor: Any,
        beside: Mapping[str, Any],
    ) -> None:
        super().__init__(names, least, most, source)
        self.model, self.processor, self.beside = model, processor, beside
        of_images = getattr(processor, "image_processor", processor)
        self.identity = {"processor": of_images.to_json_string()}

    def in_batches(
        self,
        images: Sequence[Tensor],
        sizes: Sequence[Size],
        ask: Callable[[Mapping[str, Tensor], Sequence[Size]], list[Found]],
    ) -> list[Found]:
        """Ask for what is found in images that come out of the processor in one size, together.

        Args:
            images, sizes: see find.
            ask: gives it for the inputs of a batch and the sizes of its images.
        """
        inputs = [self.inputs(image) for image in images]
        alike: dict[Any, list[int]] = defaultdict(list)
        for number, one in enumerate(inputs):
            alike[tuple((name, value.shape) for name, value in one.items())].append(number)
        found: dict[int, Found] = {}
        for numbers in alike.values():
            batch = {name: torch.cat([inputs[n][name] for n in numbers]) for name in inputs[numbers[0]]}
            found |= zip(numbers, ask(batch, [sizes[n] for n in numbers]), strict=True)
        return [found[number] for number in range(len(images))]

    def inputs(self, image: Tensor) -> dict[str, Tensor]:
        """Return what the model takes for one image; the first dimension of each tensor counts images, or prompts."""
        picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
        given = self.processor(images=picture, return_tensors="pt", **self.beside)
        weight = next(self.model.parameters())
        return {
            name: value.to(weight.device, weight.dtype if value.is_floating_point() else None)
            for name, value in given.items()
            if isinstance(value, Tensor)
        }
