"""Leave out of the output what libraries say at every run and no user can change."""

import logging
import warnings
from functools import partial

WARNINGS = {
    "`torch.jit.script` is deprecated": FutureWarning,  # Detectron2 at import
    "torch.meshgrid: in an upcoming release": UserWarning,  # Detectron2's anchors
}
LINES = {
    "torch.fx._symbolic_trace": "is_fx_tracing will return true",  # Detectron2's pooler
    "timm.models._builder": "Unexpected keys",  # the classifier of weights that an encoder starts from
}


def leave_out_chatter() -> None:
    """Leave it out for the rest of the process; call this before Detectron2 is imported."""
    for text, kind in WARNINGS.items():
        warnings.filterwarnings("ignore", text, kind)
    for name, text in LINES.items():
        logging.getLogger(name).addFilter(partial(_keeps, text))


def _keeps(text: str, record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(text)
