"""What detection and segmentation share."""

import sys
import warnings
from pathlib import Path

# A script's folder comes first on the path: tools/profile.py would hide Python's own profile, which cProfile imports.
_TOOLS = Path(__file__).resolve().parents[1] / "tools"
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != _TOOLS]

# Detectron2 compiles two helpers with it at import; nothing that a user could change.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
