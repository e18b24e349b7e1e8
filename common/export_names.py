"""Formats of exports by name, and the packages that each needs; known without PyTorch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from densedist.common.errors import UserError
from densedist.common.extras import first_absent, is_missing
from densedist.common.nearest import did_you_mean

WEIGHTS, TORCH = "weights", "torch"
FORMATS = (WEIGHTS, "onnx", "openvino", TORCH)
USUAL = (WEIGHTS, "onnx", TORCH)
WRITERS = ("onnx", "onnxscript")  # packages that write the graph from which all runtimes' files are made
INT8 = "int8"  # of a quantized file's name, before its suffix, and the extra that brings what quantizes


@dataclass(frozen=True)
class Needs:
    """What a runtime needs to be installed.

    Args:
        extra: what installs its packages.
        packages: that load a graph.
        quantizers: that quantize one besides; of the extra INT8.
    """

    extra: str
    packages: Sequence[str]
    quantizers: Sequence[str] = ()


NEEDS: Mapping[str, Needs] = {  # by format
    "onnx": Needs("export", ("onnxruntime",)),
    "openvino": Needs("openvino", ("openvino",), ("nncf",)),
}


def refuse_unknown(chosen: Sequence[str]) -> None:
    """Refuse formats that are none.

    Raises:
        UserError: naming the first, and what there is.
    """
    if unknown := [name for name in chosen if name not in FORMATS]:
        near = did_you_mean(unknown[0], FORMATS, most=1)
        raise UserError(f"--format: there is no format {unknown[0]}; want any of {','.join(FORMATS)}{near}")
    if not chosen:
        raise UserError(f"--format is empty; want any of {','.join(FORMATS)}")


def refuse_missing_packages(chosen: Iterable[str], int8: bool) -> None:
    """Refuse formats whose packages are not installed.

    Args:
        int8: also in 8 bits, of those that can be.

    Raises:
        UserError: naming the one extra that installs all that is needed.
    """
    formats = [name for name in FORMATS if name in chosen]
    lacking = {name: package for name in formats if (package := first_absent(_packages(name, int8)))}
    if not lacking:
        return
    name, package = list(lacking.items())[-1]  # whose extra brings the packages of the formats before it, too
    needs = NEEDS[name]
    extra = INT8 if int8 and needs.quantizers else needs.extra
    others = [other for other in formats if other not in lacking] or [WEIGHTS, TORCH]
    hint = f"give --format {','.join(others)}"
    if package in needs.quantizers:
        hint = "leave out --int8"
    elif int8 and not {*others} & {*NEEDS}:
        hint += " without --int8"
    raise UserError(f"--format {name}: {is_missing(package, extra)}, or {hint}")


def _packages(name: str, int8: bool) -> Sequence[str]:
    """Return the packages that write a format, and run it to compare."""
    if name not in NEEDS:
        return ()
    writer, *others = WRITERS
    return (writer, *NEEDS[name].packages, *others, *(NEEDS[name].quantizers if int8 else ()))
