"""SMP models as distillation needs them: own normalization, raw logits, a dense auxiliary head."""

from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from segmentation_models_pytorch.base import SegmentationModel
from torch import Tensor, nn

from densedist.common.distill.speed import Part
from densedist.common.engine.checkpoint import load_complete
from densedist.common.errors import UserError
from densedist.common.modules import record
from densedist.seg.labels import Classes
from densedist.seg.networks.architectures import build_smp, count_classes, divisor, read_smp_folder
from densedist.seg.networks.dense import SMP, DenseModel


class FCNHead(nn.Sequential):
    """Dense head of Long et al., CVPR 2015, as the DIST authors use it: C -> C/4 -> classes.

    (N, channels, H, W) features -> (N, classes, H, W) logits.
    """

    def __init__(self, channels: int, classes: int) -> None:
        middle = max(channels // 4, 1)
        super().__init__(
            nn.Conv2d(channels, middle, 3, padding=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(middle, classes, 1),
        )


class Network(DenseModel):
    """An SMP model behind its own normalization.

    Args:
        smp: gives logits at its own resolution (built with upsampling=1 where it knows that argument).
        pixel_mean, pixel_std: see DenseModel.
        aux_head: on the last encoder stage but one, e.g. layer3 of a ResNet.
    """

    def __init__(
        self,
        smp: SegmentationModel,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        aux_head: nn.Module | None = None,
    ) -> None:
        super().__init__(pixel_mean, pixel_std)
        self.smp, self.aux_head = smp, aux_head
        self.feature_channels, self.gives_aux = smp.encoder.out_channels[-1], aux_head is not None
        # Channels last: the same values to rounding, faster on CPU and GPU.
        self.to(memory_format=torch.channels_last)

    @property
    def divisor(self) -> int:
        return divisor(self.smp)

    @property
    def parts(self) -> list[Part]:
        own: list[Part] = [(self.smp, name) for name in ("encoder", "decoder", "segmentation_head")]
        return own if self.aux_head is None else [*own, (self, "aux_head")]

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """Return the outputs for a preprocessed batch (N, 3, H, W), by name.

        Returns:
            "cls_logits" (N, classes, h, w) at the resolution of the model's head, with an auxiliary head
            "aux_logits", and "features", the encoder's last stage.
        """
        with record(self.smp.encoder, lambda _, output: output) as encoded:
            maps = {"cls_logits": self.smp(batch)}
        # Vision transformers give (stages, tokens).
        stages = encoded[0][0] if isinstance(encoded[0], tuple) else encoded[0]
        maps["features"] = stages[-1]
        if self.aux_head is not None:
            maps["aux_logits"] = self.aux_head(stages[-2])
        return maps


def build_network(cfg: CfgNode) -> Network:
    """Build the network of MODEL.*, on MODEL.DEVICE.

    Raises:
        UserError: what SMP cannot build, or encoder weights that cannot be fetched; or MODEL.KIND is not SMP's.
    """
    if cfg.MODEL.KIND != SMP:
        raise UserError(f"MODEL.KIND is {cfg.MODEL.KIND}: such a model can only teach: set it to {SMP}")
    return _wrap(build_smp(cfg), cfg)


def load_network(cfg: CfgNode, weights: str, key: str) -> Network:
    """Build the network of MODEL.* with trained weights, its auxiliary head's included.

    Args:
        weights: a checkpoint, or a folder written by SMP's save_pretrained, which then says what the model is.
        key: what the user would change, for messages.

    Raises:
        UserError: weights that are missing, unreadable, or do not fill the network.
    """
    if Path(weights).is_dir():
        model = read_smp_folder(weights, key)
        if (classes := count_classes(model)) != len(cfg.DATASETS.CLASSES):
            raise UserError(f"{key}: {weights} has {classes} classes, DATASETS.CLASSES {len(cfg.DATASETS.CLASSES)}")
        if cfg.MODEL.AUX_HEAD.ENABLED:
            raise UserError(f"{key}: {weights} has no auxiliary head: set MODEL.AUX_HEAD.ENABLED to False")
        return _wrap(model, cfg)
    offline = cfg.clone()
    offline.defrost()
    offline.MODEL.ENCODER.WEIGHTS = ""  # they would be overwritten
    network = build_network(offline)
    parts = {} if network.aux_head is None else {"aux_head": network.aux_head}
    load_complete(network.smp, weights, key, cfg.MODEL.TRUST_PICKLE, **parts)
    return network


def _wrap(model: SegmentationModel, cfg: CfgNode) -> Network:
    aux_head = None
    if cfg.MODEL.AUX_HEAD.ENABLED:
        if len(model.encoder.out_channels) < 3:
            raise UserError("MODEL.AUX_HEAD needs an encoder with two stages: raise MODEL.ENCODER.DEPTH")
        aux_head = FCNHead(model.encoder.out_channels[-2], len(Classes.of(cfg)))
    return Network(model, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, aux_head).to(cfg.MODEL.DEVICE)
