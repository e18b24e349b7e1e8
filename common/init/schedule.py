"""A batch and a number of iterations that suit a number of images."""

from dataclasses import dataclass

LARGEST_BATCH = 8
SMALLEST_BATCH = 2  # batch norms need more than one image


@dataclass(frozen=True)
class Schedule:
    """Keys of SOLVER and TEST.

    Args:
        batch: SOLVER.IMS_PER_BATCH.
        iterations: SOLVER.MAX_ITER.
        warmup: SOLVER.WARMUP_ITERS.
        period: TEST.EVAL_PERIOD.
        passes: how often each image is seen, for the comment.
    """

    batch: int
    iterations: int
    warmup: int
    period: int
    passes: int


def schedule(images: int, passes: int, least: int) -> Schedule:
    """Return a schedule of so many passes over the images, in hundreds of iterations.

    Args:
        least: iterations at least: with few images more passes are made.
    """
    batch = LARGEST_BATCH
    while batch > max(images // 4, SMALLEST_BATCH):
        batch //= 2
    iterations = max(least, -(-passes * images // (100 * batch)) * 100)
    return Schedule(batch, iterations, min(50, iterations // 10), iterations // 5, round(iterations * batch / images))
