"""Semantic segmentation of Hugging Face's transformers: a folder of save_pretrained with its image processor."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from densedist.common.errors import UserError, one_line
from densedist.common.modules import record
from densedist.seg.dense import DenseModel

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
# What height and width are multiples of: the coarsest maps of these networks.
STRIDE = 32
# Names of the submodules that hold an encoder, from the outside in, and of what those give that holds its maps.
ENCODERS = (
    ("model.pixel_level_module.encoder", "feature_maps"),  # Mask2Former
    ("segformer", "hidden_states"),
    ("backbone", "feature_maps"),  # UPerNet
)
UNIVERSAL = "ForUniversalSegmentation"


class TransformersModel(DenseModel):
    """A model of transformers behind its processor's normalization.

    Args:
        model: gives `logits` (N, K, h, w), or classes and masks of queries, as Mask2Former does.
        names: of the classes.
        pixel_mean, pixel_std: see DenseModel.
    """

    says_pixels = True
    align_corners = False  # so they bring their logits to the size of images

    def __init__(
        self, model: Any, names: Sequence[str], pixel_mean: Sequence[float], pixel_std: Sequence[float]
    ) -> None:
        super().__init__(pixel_mean, pixel_std)
        self.model, self.names = model, tuple(names)
        self.to(memory_format=torch.channels_last)
        found = [(path, maps) for path, maps in ENCODERS if _submodule(model, path) is not None]
        self._encoder, self._maps = found[0] if found else ("", "")

    @property
    def divisor(self) -> int:
        return STRIDE

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """Taps for a preprocessed batch (N, 3, H, W): "cls_logits" (N, K, h, w), and of the encoders that are known
        "features", the last of its maps."""
        encoder = _submodule(self.model, self._encoder) if self._encoder else None
        if encoder is None:
            return {"cls_logits": _dense_logits(self.model(pixel_values=batch))}
        # Of SegFormer the encoder gives its maps only where it is asked.
        more = {"output_hidden_states": True} if self._maps == "hidden_states" else {}
        with record(encoder, lambda _, output: output[self._maps][-1]) as maps:
            logits = _dense_logits(self.model(pixel_values=batch, **more))
        return {"cls_logits": logits, "features": maps[0]}


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _dense_logits(output: Any) -> Tensor:
    """Logits (N, K, h, w) whose softmax are the class probabilities of a pixel.

    Of queries (Cheng et al., CVPR 2022): the score of a class at a pixel is the sum over the queries of its probability
    times that of the mask, without the class "nothing"; these logarithms are logits of the normalized scores.
    """
    if "logits" in output:
        return output["logits"]
    classes = output["class_queries_logits"].float().softmax(-1)[..., :-1]
    masks = output["masks_queries_logits"].float().sigmoid()
    scores = torch.einsum("nqk,nqhw->nkhw", classes, masks)
    return scores.clamp(min=torch.finfo(torch.float32).tiny).log()


def is_transformers(path: str) -> bool:
    """Whether path is a folder that transformers wrote."""
    return "model_type" in _read(Path(path) / CONFIG)


def read_names(folder: str) -> list[str]:
    """The names of the classes, by number, as the folder's config has them."""
    names: Mapping[str, str] = _read(Path(folder) / CONFIG).get("id2label", {})
    return [names[number] for number in sorted(names, key=int)]


def load(folder: str, key: str) -> TransformersModel:
    """The model in a folder of save_pretrained, with its processor's mean and deviation; images in RGB.

    Args:
        key: what names the folder, for messages.

    Raises:
        UserError: no such folder, a model for something else, or the package transformers is missing.
    """
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            f"{key}: {folder} is a model of transformers: install it by pip install 'dense-dist[transformers]'"
        ) from error
    config = _read(Path(folder) / CONFIG)
    _refuse_code(config, config.get("model_type") in transformers.CONFIG_MAPPING, f"{key}: {folder}")
    kind = next(iter(config.get("architectures") or []), "a model without a name")
    universal = kind.endswith(UNIVERSAL)
    if not universal and not kind.endswith("ForSemanticSegmentation"):
        raise UserError(f"{key}: {folder} holds {kind}: want one …ForSemanticSegmentation or …{UNIVERSAL}")
    if not (Path(folder) / PROCESSOR).is_file():
        raise UserError(f"{key}: {folder} has no {PROCESSOR}, which says how images are normalized: put it there")
    auto = (
        transformers.AutoModelForUniversalSegmentation if universal else transformers.AutoModelForSemanticSegmentation
    )
    try:
        # Without a word on code they would ask at the terminal whether to run it.
        safe = {"local_files_only": True, "trust_remote_code": False}
        model, found = auto.from_pretrained(folder, ignore_mismatched_sizes=True, output_loading_info=True, **safe)
        processor = transformers.AutoImageProcessor.from_pretrained(folder, **safe)
    except UnpicklingError as error:
        raise UserError(
            f"{key}: {folder} holds more than tensors and plain values: let its author write it by today's "
            "save_pretrained, as safetensors"
        ) from error
    except Exception as error:  # theirs are many
        raise UserError(f"{key}: transformers cannot read {folder}: {one_line(error)}") from error
    if wrong := sorted([*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])]):
        raise UserError(
            f"{key}: {folder} lacks {len(wrong)} tensors of its {kind}, or has them otherwise, first {wrong[0]}"
        )
    return TransformersModel(model, read_names(folder), *_pixels(processor))


def _refuse_code(config: Mapping[str, Any], known: bool, source: str) -> None:
    """Make sure that a folder needs no code of its author's, which lies in it or on the hub.

    Args:
        config: config.json of the folder.
        known: whether transformers has such models itself.

    Raises:
        UserError: it does.
    """
    if config.get("auto_map") and not known:
        raise UserError(f"{source} needs a program of its author's, which is never run: want a model of transformers")
    parts = [config, *(part for part in config.values() if isinstance(part, Mapping))]
    for name in ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"):
        if any("/" in str(part.get(name)) for part in parts):
            raise UserError(f"{source} names a program on the hub, which is never run: take {name} out of {CONFIG}")


def _pixels(processor: Any) -> tuple[list[float], list[float]]:
    """Mean and deviation of pixels of 0 to 255."""
    factor = processor.rescale_factor if processor.do_rescale else 1.0
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else ([0.0] * 3, [1.0] * 3)
    return [value / factor for value in mean], [value / factor for value in std]


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
