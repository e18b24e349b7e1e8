"""Which rows say about where DIST's column sums lie: from all over the logits, as classes lie in regions."""

SAMPLES = 128  # at most about so many rows
IMAGES = 16  # if there are so many


def steps(images: int, places: int) -> tuple[int, int]:
    """From one image to the next, and from one place of it to the next."""
    by_image = _step(images, max(SAMPLES // places, IMAGES))
    return by_image, _step(places, max(1, SAMPLES // -(-images // by_image)))


def _step(size: int, most: int) -> int:
    """From one of at most so many to the next; odd, so that it is seldom a multiple of an image's width."""
    return -(-size // most) | 1
