"""Training data: the loader, image files, their augmentation, and the digits scenes."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else albumentations asks the network when it is imported
