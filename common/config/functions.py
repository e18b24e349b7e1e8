"""A function of the user's that a key names as "module:function"; its module is one of IMPORTS."""

import re
from collections.abc import Sequence
from typing import Any

from densedist.common.config.imports import imported
from densedist.common.errors import UserError, one_line

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def call(name: str, imports: Sequence[str], key: str) -> Any:
    """Call the function that a name "module:function" says, without arguments, and return what it returns.

    Args:
        imports: IMPORTS of the config, which has to name its module, or the file: so it is one that the user trusts.
        key: what names it, for messages.

    Raises:
        UserError: no such module or function, or one that fails.
    """
    module, _, function = name.partition(":")
    there = imported(module, imports)
    if there is None:
        raise UserError(f"{key}: there is no function {name}: name its module, or its .py file, in IMPORTS")
    found = getattr(there, function, None)
    if not callable(found):
        raise UserError(f"{key}: {module} has no function {function}")
    try:
        return found()
    except Exception as error:  # it is somebody's code
        raise UserError(f"{key}: {name} fails: {one_line(error)}") from error
