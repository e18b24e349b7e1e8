"""Which ResNet has how many blocks."""

from collections.abc import Mapping, Sequence

from densedist.common.errors import UserError

# By the blocks of the four stages and whether these are bottlenecks.
DEPTHS: Mapping[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}


def depth_of(blocks: Sequence[int], bottleneck: bool) -> int:
    """18, 34, 50, 101 or 152.

    Args:
        blocks: of each of the four stages.

    Raises:
        UserError: no ResNet has so many.
    """
    depth = DEPTHS.get((tuple(blocks), bottleneck))
    if depth is None:
        raise UserError(f"its backbone has stages of {', '.join(map(str, blocks))} blocks, as no ResNet that is known")
    return depth
