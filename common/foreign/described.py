"""Files of `densedist export` that need no config, as they say themselves what they are.

Known without PyTorch, as kinds.py is.
"""

from pathlib import Path
from typing import Any

from densedist.common.errors import UserError, one_line
from densedist.common.export_names import NEEDS
from densedist.common.foreign.kinds import SUFFIXES, refuse_missing_package
from densedist.common.nearest import did_you_mean_path


def description_of(weights: str) -> dict[str, Any]:
    """Return what a runtime's file says of itself; nothing of all that `densedist export` has not written.

    Raises:
        UserError: there is no such file, the runtime is not installed, or cannot read the file.
    """
    file = Path(weights)
    if file.suffix not in SUFFIXES:
        return {}
    if (kind := SUFFIXES[file.suffix]) not in NEEDS:
        return {}
    if not file.is_file():
        raise UserError(f"--weights: there is no file {weights}{did_you_mean_path(weights)}")
    refuse_missing_package(weights, "--weights", kind)
    from densedist.common.runtimes import RUNTIMES  # with NumPy

    runtime = RUNTIMES[kind]
    runtime.require(f"--weights: {weights}: ")
    try:
        said = runtime.describe(file)
    except Exception as error:  # theirs are many
        raise UserError(f"--weights: {weights} cannot be read as {runtime.name}: {one_line(error)}") from error
    return {**said, "kind": runtime.name} if "task" in said else {}
