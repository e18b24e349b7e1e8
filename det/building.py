"""Detectron2's models, with a misspelt name refused in one line."""

import re

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from common.errors import UserError

UNKNOWN = re.compile(r"No object named '(.*)' found in '(.*)' registry!")


def build(cfg: CfgNode) -> nn.Module:
    """Detectron2's build_model.

    Raises:
        UserError: a name under MODEL that is registered nowhere.
    """
    try:
        return build_model(cfg)
    except KeyError as error:
        if unknown := UNKNOWN.fullmatch(str(error.args[0])):
            name, registry = unknown.groups()
            raise UserError(f"MODEL: Detectron2 has no {registry} named {name}: correct that name") from error
        raise
