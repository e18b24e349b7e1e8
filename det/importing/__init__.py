"""Detectors of other projects, as Detectron2 has them."""

from densedist.common.importing.importer import Importer
from densedist.det.importing import mmdetection, torchvision

IMPORTERS: tuple[Importer, ...] = (mmdetection.IMPORTER, torchvision.IMPORTER)
