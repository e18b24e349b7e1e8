"""From another project's names of tensors to ours, by rules, with nothing left over in silence."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from densedist.common.errors import UserError
from densedist.common.importing.form import Tensors

# (pattern of the whole name, our name as of re.Match.expand), the first that fits counts.
Rule = tuple[str, str]


def rename(
    tensors: Tensors, rules: Sequence[Rule], unused: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by our names.

    Args:
        unused: of patterns of whole names that we have no place for, why.

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
                raise UserError(f"two of its tensors would be {match}, {name} the second of them")
            renamed[match] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise UserError(f"{len(unknown)} of its {len(tensors)} tensors have no place here, first {unknown[0]}")
    return renamed, left_out
