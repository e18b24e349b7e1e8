"""Random weights for teachers that are not trained yet, or lie elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from densedist.common.config.functions import NAME
from densedist.common.distill.average import is_average


def stand_in(cfg: CfgNode, folder: Path, random_weights: Callable[[str], dict[str, Any]]) -> None:
    """Let random weights stand in, in place, for those of DISTILL.TEACHER and its MORE that are not files here.

    A teacher that no config describes stays as it is.

    Args:
        random_weights: returns for a CONFIG_FILE what a checkpoint of its model holds.
    """
    teacher = cfg.DISTILL.TEACHER
    for number, node in enumerate([teacher, *teacher.MORE]):
        config, weights = node.get("CONFIG_FILE", ""), node.get("WEIGHTS", "")
        if config and not (NAME.fullmatch(weights) or is_average(node) or Path(weights).is_file()):
            file = folder / f"teacher_{number}.pth"
            torch.save(random_weights(config), file)
            node["WEIGHTS"] = str(file)
