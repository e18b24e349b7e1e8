"""Instance masks of Hugging Face's transformers, as the library's own processors give them; boxes are those of the
masks."""

from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from types import SimpleNamespace
from typing import Any

import torch
from detectron2.structures import BitMasks
from torch import Tensor

from densedist.common.errors import UserError
from densedist.common.foreign.transformers import PROCESSOR, Folder
from densedist.det.foreign.detector import Found, Size
from densedist.det.foreign.processed import ProcessedDetector

POST = "post_process_instance_segmentation"
OF_MASKFORMER, OF_DETR = ("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks")
TASK = {"task_inputs": ["instance"]}  # what OneFormer is to do


class MaskDetector(ProcessedDetector):
    """A model that gives a class and a mask for each query.

    Overlaps are the library's. Mask2Former, MaskFormer and RF-DETR give whole masks. DETR and OneFormer give each pixel
    to one mask, the surest. EoMT paints masks over each other in the order of its queries, by which an unlikely one
    covers a likely one: so it is asked for each query alone, which gives whole masks, too.
    """

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
        super().__init__(names, least, most, source, model, processor, beside)
        self._post = getattr(processor, POST)
        known = signature(getattr(getattr(processor, "image_processor", processor), POST)).parameters
        self._options = {"return_binary_maps": True} if "return_binary_maps" in known else {}
        self._paints = not self._options and "overlap_mask_area_threshold" not in known

    def find(self, images: Sequence[Tensor], sizes: Sequence[Size]) -> list[Found]:
        return self.in_batches(images, sizes, self._found)

    def _found(self, batch: Mapping[str, Tensor], sizes: Sequence[Size]) -> list[Found]:
        outputs = self.model(**batch)
        classes, masks = OF_MASKFORMER if OF_MASKFORMER[0] in outputs else OF_DETR
        # On the CPU, where some of the library's post-processing puts its maps whatever the device.
        both = {name: outputs[name].float().cpu() for name in (classes, masks)}
        found = []
        for number, size in enumerate(sizes):
            one = {name: value[number : number + 1] for name, value in both.items()}
            parts = _queries(one, classes, self.least) if self._paints else [one]
            found.append(_joined([self._instances_of(part, size) for part in parts], size))
        return found

    def _instances_of(self, outputs: Mapping[str, Tensor], size: Size) -> tuple[Tensor, list[Mapping[str, Any]]]:
        """Return the masks (N, height, width), bool, of one image, and of each what the library says of it."""
        given = SimpleNamespace(**outputs)
        (one,) = self._post(given, threshold=self.least, target_sizes=[size], **self._options)
        maps, instances = one["segmentation"], one["segments_info"]
        if not instances:
            return torch.zeros(0, *size, dtype=torch.bool), []
        whole = maps.bool() if self._options else torch.stack([maps == instance["id"] for instance in instances])
        return whole, instances


def _queries(outputs: Mapping[str, Tensor], classes: str, least: float) -> Iterator[dict[str, Tensor]]:
    """Yield the outputs of one image for each query alone whose class may reach a score.

    Args:
        classes: the name of the class logits, whose last one is for no object.
        least: the score.
    """
    scores = outputs[classes][0].softmax(-1)[:, :-1].amax(1)
    for number in (scores >= least).nonzero()[:, 0].tolist():
        yield {name: value[:, number : number + 1] for name, value in outputs.items()}


def _joined(parts: Sequence[tuple[Tensor, list[Mapping[str, Any]]]], size: Size) -> Found:
    masks = torch.cat([torch.zeros(0, *size, dtype=torch.bool), *(masks for masks, _ in parts)])
    instances = [instance for _, of_part in parts for instance in of_part]
    scores = torch.tensor([instance["score"] for instance in instances], dtype=torch.float32)
    labels = torch.tensor([instance["label_id"] for instance in instances], dtype=torch.int64)
    return Found(BitMasks(masks).get_bounding_boxes().tensor, scores, labels, masks=masks)


def builder(folder: Folder) -> str:
    """Return the class of transformers that builds the model of a folder; "" for one that gives no masks of instances.

    Which of these models have learned instances, and which semantic or panoptic classes alone, a folder does not say.
    """
    from transformers.models.auto import modeling_auto as auto

    for kind in ("Universal", "Instance"):
        known: Mapping[str, str] = getattr(auto, f"MODEL_FOR_{kind.upper()}_SEGMENTATION_MAPPING_NAMES")
        if folder.architecture in known.values():
            return f"AutoModelFor{kind}Segmentation"
    return ""


def load(folder: Folder, least: float, most: int) -> MaskDetector:
    """Load the model in a folder, in float32, with its processor.

    Args:
        folder: of a model that has a builder.
        least, most: see ForeignDetector.

    Raises:
        UserError: no processor, or one that gives no masks of instances.
    """
    if has_task := folder.architecture.startswith("OneFormer"):
        # It would ask the hub for the names of the classes, which only training needs.
        processor = folder.load_processor("OneFormerProcessor", class_info_file="")
    else:
        processor = folder.load_processor()
    if not hasattr(processor, POST):
        raise UserError(
            f"{folder.source}: {type(processor).__name__} has no {POST}, so nothing says where the masks of instances "
            f"are: want the {PROCESSOR} of a model of instance segmentation"
        )
    if getattr(processor, "do_split_image", False):
        raise UserError(
            f"{folder.source}: {PROCESSOR} splits images (do_split_image), as a model of semantic segmentation wants "
            "them: it finds no instances; densedist label seg takes it"
        )
    model = folder.load(builder(folder))
    names = folder.names or [str(number) for number in range(model.config.num_labels)]
    return MaskDetector(names, least, most, folder.source, model, processor, TASK if has_task else {})
