"""Detectors of other projects, as Detectron2 has them."""

from densedist.common.importing.form import Form

FORMS: tuple[Form, ...] = ()
