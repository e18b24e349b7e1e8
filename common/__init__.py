"""What detection and segmentation share."""

import warnings

# Detectron2 compiles two helpers with it at import; nothing that a user could change.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
