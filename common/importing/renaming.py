"""Rename another project's tensors by rules; a name without a rule is an error."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from densedist.common.errors import UserError
from densedist.common.importing.importer import Tensors

# (pattern of the whole name, our name as of re.Match.expand), the first that fits counts.
Rule = tuple[str, str]


def rename(
    tensors: Tensors, rules: Sequence[Rule], unused: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Rename tensors to this suite's names.

    Args:
        unused: for patterns of whole names without a place in our model, the reason.

    Returns:
        the tensors; and of each name that is left out, why.

    Raises:
        UserError: a name that no rule knows, or two that become one.
    """
    renamed: dict[str, Tensor] = {}
    left_out: dict[str, str] = {}
    unknown = []
    for name, tensor in tensors.items():
        if why := next((why for pattern, why in unused.items() if re.fullmatch(pattern, name)), ""):
            left_out[name] = why
        elif match := next((m.expand(ours) for theirs, ours in rules if (m := re.fullmatch(theirs, name))), ""):
            if match in renamed:
                raise UserError(f"two of its tensors become {match}, the second is {name}")
            renamed[match] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise UserError(f"{len(unknown)} of its {len(tensors)} tensors have no place here, first {unknown[0]}")
    return renamed, left_out


# By the blocks of the four stages and whether these are bottlenecks.
DEPTHS: Mapping[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}


def depth_of(blocks: Sequence[int], bottleneck: bool) -> int:
    """Return a ResNet's depth: 18, 34, 50, 101 or 152.

    Args:
        blocks: number of blocks of each of the four stages.

    Raises:
        UserError: no ResNet has so many.
    """
    depth = DEPTHS.get((tuple(blocks), bottleneck))
    if depth is None:
        raise UserError(f"its backbone has stages of {', '.join(map(str, blocks))} blocks, like no known ResNet")
    return depth
