"""One image through a detector, as Detectron2's DefaultPredictor does it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.detection_utils import read_image
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import Instances
from torch import nn

from common.errors import UserError


def check_score(score: float) -> None:
    """Raises UserError for a --score-threshold that no score can be compared with."""
    if not 0 <= score <= 1:
        raise UserError(f"--score-threshold is {score}: want a number from 0 to 1")


def read_input(cfg: CfgNode, file: str | Path) -> tuple[dict[str, Any], np.ndarray]:
    """A Detectron2 sample {"image", "height", "width"}, resized by INPUT.*_SIZE_TEST, and the image in RGB.

    Raises:
        UserError: the image cannot be read, or a channel order other than RGB and BGR.
    """
    if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
        raise UserError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT}: want BGR or RGB")
    try:
        rgb = read_image(str(file), "RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{file} cannot be read as an image: {str(error).splitlines()[0]}") from error
    size = cfg.INPUT.MIN_SIZE_TEST
    image = rgb if cfg.INPUT.FORMAT == "RGB" else rgb[..., ::-1]
    image = ResizeShortestEdge([size, size], cfg.INPUT.MAX_SIZE_TEST).get_transform(image).apply_image(image)
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return {"image": tensor, "height": rgb.shape[0], "width": rgb.shape[1]}, rgb


@torch.no_grad()
def predict(model: nn.Module, sample: dict[str, Any]) -> Instances:
    """What a model in eval mode sees in a sample, on the CPU, in pixels of the original image.

    Raises:
        UserError: the model predicts no instances.
    """
    output = model([sample])[0]
    if "instances" not in output:
        raise UserError(f"MODEL.META_ARCHITECTURE: {type(model).__name__} predicts no boxes")
    return output["instances"].to("cpu")
