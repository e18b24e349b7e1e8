"""Segmentation on segmentation-models-pytorch (SMP)."""

from seg.config import get_cfg
from seg.network import Network, build_network
from seg.segmenter import Segmenter

__all__ = ["Network", "Segmenter", "build_network", "get_cfg"]
