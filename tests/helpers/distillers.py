"""Distillers built from a config and from the specs of taps alone, without models."""

import torch

from densedist.common.config import load
from densedist.common.distill.build import build_distiller
from densedist.common.distill.taps import TapSpec
from densedist.det.config import GRAMMAR

LOGITS = TapSpec("rows", (4,), "softmax")


def specs(*channels):
    samples = TapSpec("samples", channels)
    return {"cls_logits": LOGITS, "features": TapSpec("maps", channels), "images": samples, "cells": samples}


STUDENT, TEACHER = specs(4, 6), specs(8, 8)


def config(*overrides):
    """No loss, and no schedule, that the overrides do not name."""
    return load(GRAMMAR, "", ["DISTILL.DIST.WEIGHT", "0.0", "DISTILL.DECAY", "none", *map(str, overrides)])


def build(*overrides, student=STUDENT, teacher=TEACHER):
    torch.manual_seed(0)
    return build_distiller(config(*overrides), student, teacher)


def maps(channels, seed):
    torch.manual_seed(seed)
    return [torch.randn(2, c, 5, 4) for c in channels]
