"""What an author of a detector hands on, and what is true of it."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

SIDE = 128  # of images: each map of each detector is exactly a power of two smaller
BOXES = torch.tensor([[3.0, 5.0, 70, 60], [40.2, 11.7, 52.9, 33.1], [0.0, 0.0, 128, 96], [90.5, 50.5, 126.0, 127]])
PRECISIONS = "float32", "float16", "bfloat16", "float64"
WRAPPED = (
    "nothing",
    "model",
    "state_dict",
    "model_state_dict",
    "DataParallel",
    "a Lightning module",
    "torch.compile",
    "torchvision's script",
    "safetensors",
    "whole module",
)
Parts = Mapping[str, Sequence[Tensor]]  # as helpers.imported gives them


@dataclass(frozen=True)
class Found:
    """Objects in an image: boxes (N, 4) in pixels, scores (N,) and numbers of classes from 0 (N,)."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


@dataclass(frozen=True)
class Truth:
    """What a network gives by itself, in float32.

    Args:
        parts: of a raw RGB image (3, H, W): its maps, and what it says of BOXES; anchors of a place in its own order.
        anchors: width and height (A, 2) of each map's anchors, in that order.
        whole: of the same what it finds; None = Detectron2 has no such inference.
        classes: how many.
        keys: of Detectron2's config what its author has said, or has by default.
    """

    parts: Callable[[Tensor], Parts]
    anchors: Sequence[Tensor]
    whole: Callable[[Tensor], Found] | None
    classes: int
    keys: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Handed:
    """
    Args:
        file: the weights.
        truth: None = there is nothing that could be taken.
        config: of a detector of Detectron2; "" = it is imported.
        options: NAME=VALUE that its author's page says.
        words: KEY VALUE of the same.
    """

    file: Path
    truth: Truth | None
    config: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    words: Sequence[str] = ()


@dataclass(frozen=True)
class Form:
    """
    Args:
        write: of (a folder that is empty, seed, choices).
        choices: by name the values, of which the first is usual.
        may: (name, value) that may be refused alone; any other value alone must be taken.
    """

    name: str
    write: Callable[[Path, int, Mapping[str, str]], Handed]
    choices: Mapping[str, Sequence[str]]
    may: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Handing:
    """Args: form: a name of FORMS; varied: choices that are not as usual."""

    form: str
    seed: int = 0
    varied: tuple[tuple[str, str], ...] = ()


def picture(seed: int) -> Tensor:
    """A raw RGB image with large and small structures."""
    generator = torch.Generator().manual_seed(seed)
    coarse = nn.functional.interpolate(torch.rand(1, 3, 8, 8, generator=generator), (SIDE, SIDE))[0]
    return (255 * (0.7 * coarse + 0.3 * torch.rand(3, SIDE, SIDE, generator=generator))).to(torch.uint8)


def rounded(model: nn.Module, precision: str) -> nn.Module:
    """The network in float32 with the numbers that it has in another precision."""
    return model.to(getattr(torch, precision)).float()


@torch.no_grad()
def tame(*layers: Any) -> None:
    """Let boxes move a little only: those that leave the image are dropped sooner or later, as each library likes."""
    for layer in layers:
        layer.weight.mul_(0.03)
        layer.bias.mul_(0.03)


@torch.no_grad()
def opinionated(layer: Any, background: int) -> None:
    """Let class logits differ, and the background (its output's number) be no favorite."""
    layer.weight.mul_(3)
    layer.bias[background] -= 6


def save(model: nn.Module, folder: Path, precision: str, wrapped: str, **more: Any) -> Path:
    """Write the state of a network.

    Args:
        wrapped: one of WRAPPED.
        more: of the outer dict.
    """
    kind = getattr(torch, precision)
    prefix = {"DataParallel": "module.", "a Lightning module": "model.", "torch.compile": "_orig_mod."}.get(wrapped, "")
    state = {f"{prefix}{name}": x.to(kind) if x.is_floating_point() else x for name, x in model.state_dict().items()}
    if wrapped == "safetensors":
        save_file({name: x.contiguous() for name, x in state.items()}, folder / "model.safetensors")
        return folder / "model.safetensors"
    content: Any = {
        "model": {"model": state, "epoch": 3},
        "state_dict": {"state_dict": state, "epoch": 3},
        "model_state_dict": {"epoch": 3, "model_state_dict": state, "loss": 0.3},
        "a Lightning module": {"state_dict": state, "hyper_parameters": {"lr": 0.1}, "pytorch-lightning_version": "2"},
        "torchvision's script": {
            "model": state,
            "optimizer": torch.optim.SGD([torch.zeros(2)], 0.1, momentum=0.9).state_dict(),
            "lr_scheduler": {"last_epoch": 3, "milestones": [16, 22]},
            "args": argparse.Namespace(dataset="coco", lr=0.02, aspect_ratio_group_factor=3),
            "epoch": 3,
        },
        "whole module": model,
    }.get(wrapped, state)
    if more:
        content = {"state_dict": state, **more}
    torch.save(content, folder / "model.pth")
    return folder / "model.pth"
