"""Detectors of other projects, as Detectron2 has them."""

from densedist.common.importing.form import Form
from densedist.det.importing import mmdetection, torchvision

FORMS: tuple[Form, ...] = (mmdetection.FORM, torchvision.FORM)
