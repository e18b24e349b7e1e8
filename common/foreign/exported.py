"""Programs of torch.export (.pt2) without what could run anything else: only such a file is read without trust.

PyTorch's loader unpickles what is no plain tensor, evaluates sizes and guards that are written as text, makes Python
code of names, and calls any function of torch that a program names. So a file is taken apart here and put together
anew, of checked parts alone: plain tensors, operators of ATen and torchvision, names that are names, sizes and guards
that only compute. The loader sees that copy, and neither the file nor anything else in its archive.
"""

import ast
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter, constants
from torch.utils import _pytree as pytree

from densedist.common.config.trust import REMEDY
from densedist.common.errors import UserError

MODEL = "model"  # the name that torch.export.save gives to the program in its archive
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
DOTTED = re.compile(r"(?!__)\w+(\.(?!__)\w+)*", re.ASCII)
# Text that is evaluated: no other quotes, no escapes, no comments, one line.
FORMULA = re.compile(r"[\w ()\[\]'.,+*/%<>=!&|~-]+", re.ASCII)

OPERATORS = re.compile(
    r"_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
    r"|math\.[a-z]\w*|torch\._?sym_\w+"
    r"|torch\.ops\.higher_order\.(cond|wrap_with_set_grad_enabled|wrap_with_autocast)",
    re.ASCII,
)
OVERLOAD = re.compile(r"torch\.ops\.(aten|torchvision)\.(\w+)\.(\w+)", re.ASCII)
FILES = ("from_file", "save")  # of ATen, those that write to paths

# What sizes are made of, in SymPy's words and in those that PyTorch adds.
SIZES = re.compile(
    r"Symbol|Integer|Rational|Float|Add|Mul|Pow|Max|Min|Mod|Abs|floor|ceiling|And|Or|Not|Xor|ITE|Piecewise|ExprCondPair"
    r"|Equality|Unequality|Eq|Ne|(Strict)?(Greater|Less)Than|G[te]|L[te]|FloorDiv|ModularIndexing|Where|PythonMod"
    r"|CleanDiv|(Ceil|Floor|Round|Trunc)ToInt|CeilDiv|[LR]Shift|PowByNatural|FloatPow|(Float|Int)TrueDiv|TruncToFloat"
    r"|RoundDecimal|ToFloat|Identity|IsNonOverlappingAndDenseIndicator"
)
SYMBOL = re.compile(r"[a-z]+\d+|true|false|oo|int_oo", re.ASCII)
# What guards are made of: Python's words, and what they ask of an input, L['images'].
GUARDS = ("L", "math", "torch", "max", "min", "abs", "round", "float", "int", "IsNonOverlappingAndDenseIndicator")
ASKED = ("size", "stride", "storage_offset", "dim")
PLAIN = (
    *(ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.Compare, ast.IfExp, ast.Attribute),
    *(ast.Subscript, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
STRUCTURES = ("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")


def checked_copy(file: str, extra: str) -> io.BytesIO:
    """Rebuild a program's archive from what is plain in the file.

    Args:
        extra: the extra file that is kept, too, where there is one.

    Raises:
        UserError: something in it could run more than operators on tensors, and so needs trust.
    """
    content = io.BytesIO(Path(file).read_bytes())
    with zipfile.ZipFile(content) as archive:
        old = "version" in archive.namelist()  # up to PyTorch 2.7
        parts = _old_parts(archive, extra) if old else {}
    content.seek(0)
    copy = io.BytesIO()
    with PT2ArchiveWriter(copy) as writer:
        for name, part in (parts or _parts(PT2ArchiveReader(content), extra)).items():
            writer.write_bytes(name, part)
    copy.seek(0)
    return copy


def _parts(reader: PT2ArchiveReader, extra: str) -> dict[str, bytes]:
    """Return the checked files of an archive of today."""
    there = set(reader.get_file_names())
    program = constants.MODELS_FILENAME_FORMAT.format(MODEL)
    if program not in there:
        raise UserError("it holds no program of torch.export")
    parts = {program: _program(reader.read_bytes(program))}
    weights = constants.WEIGHTS_DIR, constants.WEIGHTS_CONFIG_FILENAME_FORMAT, constants.WEIGHT_FILENAME_PREFIX
    others = (
        *(constants.CONSTANTS_DIR, constants.CONSTANTS_CONFIG_FILENAME_FORMAT),
        constants.TENSOR_CONSTANT_FILENAME_PREFIX,
    )
    for folder, config, kind in (weights, others):
        legacy, file = f"{folder}{MODEL}.pt", config.format(MODEL)
        if legacy in there:
            parts[legacy] = _tensors(reader.read_bytes(legacy), "weights or constants")
            continue
        table = _checked(json.loads(reader.read_bytes(file)))
        parts[file] = json.dumps(table).encode()
        for name, payload in table["config"].items():
            path = payload["path_name"]
            if payload["use_pickle"] or not re.fullmatch(rf"{kind}\d+", path, re.ASCII):
                raise _needs_trust(f"its tensor {name} is a pickle, and reading one")
            parts[folder + path] = reader.read_bytes(folder + path)
    samples = constants.SAMPLE_INPUTS_FILENAME_FORMAT.format(MODEL)
    parts[samples] = _tensors(reader.read_bytes(samples), "sample inputs")
    if constants.EXTRA_DIR + extra in there:
        parts[constants.EXTRA_DIR + extra] = reader.read_bytes(constants.EXTRA_DIR + extra)
    return parts


def _old_parts(archive: zipfile.ZipFile, extra: str) -> dict[str, bytes]:
    """Return the checked files of an archive of PyTorch 2.7 or older, by the names that they have today."""
    parts = {
        constants.MODELS_FILENAME_FORMAT.format(MODEL): _program(archive.read("serialized_exported_program.json")),
        f"{constants.WEIGHTS_DIR}{MODEL}.pt": _tensors(archive.read("serialized_state_dict.pt"), "weights"),
        f"{constants.CONSTANTS_DIR}{MODEL}.pt": _tensors(archive.read("serialized_constants.pt"), "constants"),
        constants.SAMPLE_INPUTS_FILENAME_FORMAT.format(MODEL): _tensors(
            archive.read("serialized_example_inputs.pt"), "example inputs"
        ),
    }
    if f"extra_files/{extra}" in archive.namelist():
        parts[constants.EXTRA_DIR + extra] = archive.read(f"extra_files/{extra}")
    return parts


def _tensors(content: bytes, what: str) -> bytes:
    """Rewrite what torch.save wrote: tensors and numbers, in tuples, lists and dicts with names."""
    if not content:
        return content
    try:
        value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise _needs_trust(f"its {what} hold more than tensors and plain values, and reading that") from error
    for path, leaf in pytree.tree_flatten_with_path(value)[0]:
        keys = [step.key for step in path if isinstance(step, pytree.MappingKey)]
        if type(leaf) not in (Tensor, nn.Parameter, int, float, bool, type(None)) or not all(
            isinstance(key, str) and DOTTED.fullmatch(key) for key in keys
        ):
            raise _needs_trust(f"its {what} hold {type(leaf).__name__} beside tensors, and reading that")
    written = io.BytesIO()
    torch.save(value, written)
    return written.getvalue()


def _program(content: bytes) -> bytes:
    """Return the program's graph, without what only says where it came from."""
    program = json.loads(content)
    module = program["graph_module"]
    module["module_call_graph"] = module["module_call_graph"][:1]  # of the whole; others are for unflattening
    specs = [next(iter(spec.items())) for spec in module["signature"]["input_specs"]]
    given = [*module["graph"]["inputs"], *(spec["arg"] for kind, spec in specs if kind == "user_input")]
    if any(set(one) != {"as_tensor"} for one in given) or not {kind for kind, _ in specs} <= INPUTS:
        # Values are compared in code that is made of them.
        raise _needs_trust("it takes more than tensors, and a program that does")
    return json.dumps(_checked(program)).encode()


def _checked(value: Any, key: str = "") -> Any:
    """Return plain data, of which each text is what its key may have."""
    if isinstance(value, dict):
        if wrong := [name for name in value if not (DOTTED.fullmatch(name) or NAME.fullmatch(name))]:
            raise _needs_trust(f"a name in it, {wrong[0]!r:.80}, is none, and a program that is made of it")
        if key in RULES:
            raise _needs_trust(f"its {key} is no text, and what it stands for")
        if key in MAPS:
            return {name: _checked(item) for name, item in value.items()}
        return {name: {} if name in NOTES else _checked(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_checked(item, key) for item in value]
    if isinstance(value, str) and not _holds(RULES.get(key), value):
        raise _needs_trust(f"its {key} {value!r:.80} is none of a plain program, and what it stands for")
    return value


def _holds(rule: Callable[[str], Any] | None, text: str) -> bool:
    try:
        return rule is not None and bool(rule(text))
    except Exception:  # no formula, no structure
        return False


def _is_name(text: str) -> bool:
    return not text or bool(NAME.fullmatch(text))  # arguments without one have ""


def _is_operator(text: str) -> bool:
    if found := OVERLOAD.fullmatch(text):
        space, name, overload = found.groups()
        packet = getattr(getattr(torch.ops, space), name, None)
        return name not in FILES and isinstance(getattr(packet, overload, None), torch._ops.OpOverload)
    return bool(OPERATORS.fullmatch(text))


def _is_formula(text: str, may_be: Callable[[ast.AST], bool]) -> bool:
    if not FORMULA.fullmatch(text):
        return False
    nodes = list(ast.walk(ast.parse(text, mode="eval")))
    return all(isinstance(node, PLAIN) and may_be(node) for node in nodes) and all(
        bool(re.fullmatch(r"\w+|-?[\d.]+(e[+-]?\d+)?", node.value, re.ASCII))
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _is_size(text: str) -> bool:
    """Return whether it is like "Add(Symbol('s0', integer=True), Integer(1))" or "s0 + 1"."""

    def may_be(node: ast.AST) -> bool:
        if isinstance(node, ast.Call):
            return isinstance(node.func, ast.Name) and bool(SIZES.fullmatch(node.func.id))
        if isinstance(node, ast.Name):
            return bool(SIZES.fullmatch(node.id) or SYMBOL.fullmatch(node.id))
        return not isinstance(node, (ast.Attribute, ast.Subscript))

    return _is_formula(text, may_be)


def _is_guard(text: str) -> bool:
    """Return whether it is like "L['images'].size()[2] % 32 == 0"."""

    def may_be(node: ast.AST) -> bool:
        if isinstance(node, ast.Call):
            return isinstance(node.func, (ast.Name, ast.Attribute))
        if isinstance(node, ast.Name):
            return node.id in GUARDS
        if isinstance(node, ast.Attribute):
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            if of == "torch":
                return bool(re.fullmatch(r"_?sym_\w+", node.attr))
            return node.attr[0] != "_" if of == "math" else not of and node.attr in ASKED
        return True

    return _is_formula(text, may_be)


def _is_structure(text: str) -> bool:
    """Return whether it says how arguments lie in tuples, lists and dicts, as torch.utils._pytree writes it."""
    protocol, spec = json.loads(text)

    def plain(spec: Mapping[str, Any]) -> bool:
        if spec["type"] is None:
            return spec["context"] is None
        names = json.loads(spec["context"]) or []
        plain_names = isinstance(names, list) and all(isinstance(n, str) and NAME.fullmatch(n) for n in names)
        return spec["type"] in STRUCTURES and plain_names and all(map(plain, spec["children_spec"]))

    return protocol == 1 and plain(spec)


# By its key, what a text may be; of no other key may there be a text at all.
RULES: Mapping[str, Callable[[str], Any]] = {
    "target": _is_operator,
    "expr_str": _is_size,
    "guards_code": _is_guard,
    **dict.fromkeys(("in_spec", "out_spec"), _is_structure),
    **dict.fromkeys(("name", "as_name", "forward_arg_names", "type", "verifiers"), _is_name),
    **dict.fromkeys(("parameter_name", "buffer_name", "tensor_constant_name", "path_name"), DOTTED.fullmatch),
    "fqn": lambda text: not text,  # of the whole
    **dict.fromkeys(("as_string", "as_strings", "torch_version"), str.isprintable),  # is written as a literal
    "as_float": lambda text: text in ("Infinity", "-Infinity", "NaN"),
}
# Whose keys are names of values, and no words of the format.
MAPS = (
    *("tensor_values", "sym_int_values", "sym_float_values", "sym_bool_values", "custom_obj_values"),
    *("config", "range_constraints", "opset_version", "as_string_to_argument"),
)
INPUTS = {"user_input", "parameter", "buffer", "tensor_constant"}
NOTES = ("metadata", "treespec_namedtuple_fields")  # of where it came from; not used here


def _needs_trust(what: str) -> UserError:
    return UserError(f"{what} can run any program that its author hid in it; {REMEDY}")
