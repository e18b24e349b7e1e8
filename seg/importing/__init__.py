"""Segmentation models of other projects, as SMP has them."""

from densedist.common.importing.form import Form

FORMS: tuple[Form, ...] = ()
