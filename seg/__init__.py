"""Segmentation on segmentation-models-pytorch (SMP)."""

from densedist import check_installation

check_installation()

from densedist.seg.config import get_cfg
from densedist.seg.networks.network import Network, build_network
from densedist.seg.segmenter import Segmenter

__all__ = ["Network", "Segmenter", "build_network", "get_cfg"]
