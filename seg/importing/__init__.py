"""Segmentation models of other projects, as SMP has them."""

from densedist.seg.importing import cirkd, torchvision

IMPORTERS = (cirkd.IMPORTER, cirkd.BACKBONE_IMPORTER, torchvision.IMPORTER)
