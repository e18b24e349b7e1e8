"""A foreign network's trial, before anything learns from it: does it give class logits, the same for the same image?"""

import logging
from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional as F

from densedist.common.errors import UserError, one_line
from densedist.seg.foreign.model import ForeignModel
from densedist.seg.networks.dense import LOGITS

logger = logging.getLogger(__name__)
SMALL = 128  # pixels: the sides of the images that it sees several times, where it takes images of any size
# Of the range of its logits, by which those of one image may differ: more than any rounding, less than dropout.
SLACK = 0.02
SURE = 0.01  # by which probabilities in half precision may miss a sum of 1


@torch.no_grad()
def try_out(network: ForeignModel, size: Sequence[int], source: str) -> None:
    """Find out what the network gives, and say it in its attributes; where it gives probabilities, take logarithms.

    Args:
        size: height and width of an image that it has to take.
        source: what names it, for messages.

    Raises:
        UserError: it fails, gives no class logits, or other ones for the same image.
    """
    images = _images(size)
    whole = _run(network, images[:1], source)
    logits = whole["cls_logits"]
    network.class_count, network.gives_aux = logits.shape[1], "aux_logits" in whole
    network.feature_channels = whole["features"].shape[1] if "features" in whole else None
    small = _images([min(side, SMALL) for side in size])
    if small[0].shape != images[0].shape and _takes(network, small[:1]):
        images = small
    alone = [_run(network, [image], source) for image in images]
    _check_same(
        alone[0],
        _run(network, images[:1], source),
        f"{source} gives other logits for the same image each time",
        "dropout",
    )
    if not _takes(network, images) and network.takes_one():
        logger.info(f"{source} takes one image at a time: batches are split into images")
    both = _run(network, images, source)
    reason = f"{source} gives other logits for an image alone and in a batch"
    for number, one in enumerate(alone):
        _check_same(one, {name: maps[number : number + 1] for name, maps in both.items()}, reason, "batch norms")
    if not network.says_logits:
        network.probabilities = [name for name in LOGITS if name in both and _are_probabilities(both[name], source)]
    if network.probabilities:
        logger.info(f"{source} gives class probabilities: their logarithms are taken as logits")


def _images(size: Sequence[int]) -> list[Tensor]:
    """Return two raw images (3, H, W), 0 to 255, one bright and smooth, one dark and of single pixels: batch norms in
    training mode see other means and deviations in each."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, *(ceil(side / 16) for side in size), generator=generator)
    smooth = F.interpolate(coarse, size=tuple(size), mode="bilinear")[0]
    pixels = torch.rand(3, *size, generator=generator)
    return [(55 + 200 * smooth).round(), (100 * pixels**2).round()]


def _run(network: ForeignModel, images: Sequence[Tensor], source: str) -> dict[str, Tensor]:
    """Run the network on images and refuse maps that are wrong."""
    batch = network.preprocess(images)
    try:
        output = network(batch)
    except UserError:
        raise
    except Exception as error:  # it is somebody's code
        raise UserError(f"{source} fails on images {tuple(batch.shape)}: {one_line(error)}") from error
    _check_logits(output, batch, source)
    return output


def _takes(network: ForeignModel, images: Sequence[Tensor]) -> bool:
    try:
        network(network.preprocess(images))
    except Exception:  # it is somebody's code
        return False
    return True


def _check_logits(output: dict[str, Tensor], batch: Tensor, source: str) -> None:
    logits = output.get("cls_logits")
    if not isinstance(logits, Tensor):
        raise UserError(f"{source} gives no cls_logits (N, classes, h, w), but {list(output)}")
    shape = tuple(logits.shape)
    given = f"{source} gives {shape} for images {tuple(batch.shape)}"
    if not logits.is_floating_point() or (logits.dim() == 3 and len(logits) == len(batch)):
        raise UserError(
            f"{given}, {logits.dtype}, as class numbers: want logits (N, classes, h, w), without the argmax"
        )
    if logits.dim() != 4 or len(logits) != len(batch):
        raise UserError(f"{given}: want logits (N, classes, h, w)")
    if _shaped(shape[1:3], batch) and not _shaped(shape[2:], batch):
        raise UserError(f"{given}, with classes last: want logits (N, classes, h, w)")
    if not bool(logits.isfinite().all()):
        raise UserError(f"{source} gives logits that are not finite")


def _shaped(size: Sequence[int], batch: Tensor) -> bool:
    """Return whether a map of this height and width may be the images', at some stride."""
    height, width = (side / pixels for side, pixels in zip(size, batch.shape[2:], strict=True))
    return 0.9 < height / width < 1.1


def _check_same(one: dict[str, Tensor], other: dict[str, Tensor], reason: str, cause: str) -> None:
    for name in LOGITS:
        if name in one:
            spread = max(float(one[name].max() - one[name].min()), 1e-6)
            if float((one[name] - other[name]).abs().max()) > SLACK * spread:
                raise UserError(f"{reason}, as with {cause} in training mode: put it in eval mode, by model.eval()")


def _are_probabilities(maps: Tensor, source: str) -> bool:
    """Return whether all numbers are of 0 to 1, with a sum of 1 over the classes.

    Raises:
        UserError: they are of 0 to 1 without such a sum, as sigmoids are; or 0 and 1 alone.
    """
    if maps.min() < 0 or maps.max() > 1 + SURE or maps.max() == maps.min():
        return False
    if bool(((maps == 0) | (maps == 1)).all()):
        raise UserError(f"{source} gives only 0 and 1, like class numbers: want logits, without the argmax")
    if float((maps.sum(1) - 1).abs().max()) <= SURE:
        return True
    raise UserError(
        f"{source} gives numbers of 0 to 1 whose sum over the classes is not 1, like sigmoids: want logits before them"
    )
