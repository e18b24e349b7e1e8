"""The networks of the DIST authors (and of CIRKD, Yang et al., CVPR 2022, whose code they use) where SMP's differ.

On a timm encoder ("tu-resnet101s", or "tu-resnet18" with a deep stem) at stride 8 they are theirs exactly. SMP's own
ResNets dilate the first block of the last two stages by 2 and 4, theirs by 1 and 2, as timm does.
"""

from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base import SegmentationHead, SegmentationModel
from segmentation_models_pytorch.base.modules import Conv2dReLU
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPBlock
from torch import nn


class DISTDeepLabV3(smp.DeepLabV3):
    """SMP's DeepLabV3 with a dropout before the classifier; the tensors have the same names.

    Args:
        decoder_dropout: its probability.
        kwargs: as SMP's, like all others.
    """

    def __init__(
        self,
        encoder_name: str = "tu-resnet18",
        encoder_depth: int = 5,
        encoder_weights: str | None = None,
        encoder_output_stride: int = 8,
        decoder_channels: int = 128,
        decoder_dropout: float = 0.1,
        classes: int = 19,
        upsampling: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            encoder_name=encoder_name,
            encoder_depth=encoder_depth,
            encoder_weights=encoder_weights,
            encoder_output_stride=encoder_output_stride,
            decoder_channels=decoder_channels,
            classes=classes,
            upsampling=upsampling,
            **kwargs,
        )
        self.decoder.relu = nn.Sequential(nn.ReLU(), nn.Dropout(decoder_dropout))
        _initialize_as_torch_does(self.decoder, self.segmentation_head)


class DISTPSPNet(smp.PSPNet):
    """PSPNet (Zhao et al., CVPR 2017) whose pyramid is joined by a 3x3 convolution and classified by a 1x1, with batch
    norm in each of the pyramid's branches. In training a batch needs two images: one pixel of one has no deviation.

    Args:
        psp_out_channels: of the 3x3 convolution.
        psp_dropout: probability, of single values, not of maps as in SMP's.
        encoder_name, encoder_depth, encoder_weights, classes, upsampling, kwargs: as SMP's.
    """

    def __init__(
        self,
        encoder_name: str = "tu-resnet18",
        encoder_depth: int = 5,
        encoder_weights: str | None = None,
        psp_out_channels: int = 128,
        psp_dropout: float = 0.1,
        classes: int = 19,
        upsampling: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            encoder_name=encoder_name,
            encoder_depth=encoder_depth,
            encoder_weights=encoder_weights,
            psp_out_channels=psp_out_channels,
            classes=classes,
            upsampling=upsampling,
            **kwargs,
        )
        channels, decoder = self.encoder.out_channels[-1], self.decoder
        sizes = [block.pool_size for block in decoder.psp.blocks]
        decoder.psp.blocks = nn.ModuleList(_branch(channels, channels // len(sizes), size) for size in sizes)
        decoder.conv = Conv2dReLU(2 * channels, psp_out_channels, kernel_size=3, padding=1, use_norm="batchnorm")
        decoder.dropout = nn.Dropout(psp_dropout)
        self.segmentation_head = SegmentationHead(psp_out_channels, classes, kernel_size=1, upsampling=upsampling)
        _initialize_as_torch_does(decoder, self.segmentation_head)


def _branch(channels: int, outputs: int, size: int) -> PSPBlock:
    """Build SMP's branch, but with batch norm at size 1 as well."""
    block = PSPBlock(channels, outputs, size)
    block.pool[1] = Conv2dReLU(channels, outputs, kernel_size=1, use_norm="batchnorm")
    return block


def _initialize_as_torch_does(*parts: nn.Module) -> None:
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()


def stock(model: SegmentationModel) -> SegmentationModel:
    """Return SMP's own model of the same tensors, if there is one (it differs in training only); else the model."""
    if not isinstance(model, DISTDeepLabV3):
        return model
    arguments = {name: value for name, value in model.config.items() if name != "decoder_dropout"}
    plain = smp.DeepLabV3(**{**arguments, "encoder_weights": None})
    plain.load_state_dict(model.state_dict())
    return plain.train(model.training)
