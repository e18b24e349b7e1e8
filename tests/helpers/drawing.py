"""To draw a run's curves takes half of the time of a short run: where nobody looks at them, one pixel will do."""

import cv2
import numpy as np

from densedist.common.report import page


def draw_nothing(_, __, file):
    """In the place of draw_curves."""
    cv2.imwrite(str(file), np.zeros((1, 1, 3), np.uint8))


def without_curves():
    """From now on in this process, one that a test has started."""
    page.draw_curves = draw_nothing
