"""Detectors by other authors, in the forms in which they hand them on, and what they give by themselves."""

from collections.abc import Mapping

from referee.det_authors import detectron2, mmdetection, torchvision
from referee.det_authors.handing import Form

FORMS: Mapping[str, Form] = {form.name: form for form in (torchvision.FORM, detectron2.FORM, mmdetection.FORM)}
