"""Segmentation models of other projects, as SMP has them."""

from densedist.seg.importing import cirkd, torchvision

FORMS = (cirkd.FORM, cirkd.BACKBONE_FORM, torchvision.FORM)
