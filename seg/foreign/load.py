"""From a path or a name to a network that somebody else has built."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from torch import nn

from densedist.common.errors import UserError, one_line
from densedist.common.foreign import call
from densedist.seg.dense import DenseModel
from densedist.seg.foreign import transformers
from densedist.seg.foreign.function import FunctionModel
from densedist.seg.foreign.program import ProgramModel
from densedist.seg.foreign.programs import read_program


def load_foreign(cfg: CfgNode, weights: str, key: str, size: Sequence[int]) -> DenseModel:
    """The network of MODEL.FORM, another than SMP's, on MODEL.DEVICE, in eval mode.

    A folder of transformers and a program of `densedist export` say themselves how images are normalized; of others
    MODEL.PIXEL_MEAN and PIXEL_STD do.

    Args:
        weights: a file, a folder, or "module:function".
        key: what names them, for messages.
        size: height and width of an image, on which it is tried.

    Raises:
        UserError: what cannot be read, or does not give class logits.
    """
    node = cfg.MODEL
    network: DenseModel
    if node.FORM == "transformers":
        network = transformers.load(weights, key)
        _check_format(cfg, "RGB", f"{key}: {weights}")
    elif node.FORM == "function":
        model = call(weights, cfg.IMPORTS, key)
        if not isinstance(model, nn.Module):
            raise UserError(f"{key}: {weights} returns {type(model).__name__}: want a torch.nn.Module")
        network = FunctionModel(model, node.PIXEL_MEAN, node.PIXEL_STD, node.STRIDE)
    else:
        program = read_program(node.FORM, weights, node.DEVICE, node.TRUST_PICKLE, key)
        mean, std = ([0.0] * 3, [1.0] * 3) if program.raw else (node.PIXEL_MEAN, node.PIXEL_STD)
        network = ProgramModel(program, mean, std, 1 if program.raw else node.STRIDE, f"{key}: {weights}")
        if order := program.description.get("channels", ""):
            _check_format(cfg, order, f"{key}: {weights}")
    network = network.to(node.DEVICE).eval()
    _try(network, size, f"{key}: {weights}")
    return network


def _check_format(cfg: CfgNode, wanted: str, source: str) -> None:
    if cfg.INPUT.FORMAT != wanted:
        raise UserError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT}, but {source} wants {wanted}")


@torch.no_grad()
def _try(network: DenseModel, size: Sequence[int], source: str) -> None:
    """Find out on one image what the network gives.

    Raises:
        UserError: nothing that can be used.
    """
    batch = network.preprocess([torch.zeros(3, *size)])
    try:
        output = network(batch)
    except UserError:
        raise
    except Exception as error:  # it is somebody's code
        raise UserError(f"{source} fails on images {tuple(batch.shape)}: {one_line(error)}") from error
    logits = output.get("cls_logits")
    if not isinstance(logits, torch.Tensor) or logits.dim() != 4:
        raise UserError(f"{source} gives no cls_logits (N, classes, h, w), but {list(output)}")
    network.class_count, network.gives_aux = logits.shape[1], "aux_logits" in output
    network.feature_channels = output["features"].shape[1] if "features" in output else None
