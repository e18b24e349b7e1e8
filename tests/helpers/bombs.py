"""Files that somebody has hidden a program in, which writes a marker when the file is loaded without care."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn


class Bomb:
    """Unpickled, it writes `marker`; no code of these tests is needed for that."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.marker}",)


def pickled(marker: Path) -> bytes:
    return pickle.dumps(Bomb(marker))


def checkpoint(file: Path, marker: Path, **more: Any) -> Path:
    """A file of torch.save that holds a bomb beside what it says it holds."""
    torch.save({"bomb": Bomb(marker), **more}, file)
    return file


class Small(nn.Module):
    """Logits of 11 classes at half the size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv2d(3, 11, 2, 2)
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images - self.mean)


def export(file: Path) -> Path:
    """A harmless .pt2 that takes any size."""
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        Small().eval(), (torch.zeros(2, 3, 64, 96),), dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},)
    )
    torch.export.save(program, file)
    return file


def changed(file: Path, to: Path, changes: Mapping[str, Callable[[bytes], bytes] | bytes]) -> Path:
    """A copy of an archive with other content of some files, by the ends of their names; new ones are added."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(to, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        left = dict(changes)
        for name in old.namelist():
            content = old.read(name)
            for end in [end for end in left if name.endswith(end)]:
                change = left.pop(end)
                content = change if isinstance(change, bytes) else change(content)
            new.writestr(name, content)
        for end, change in left.items():
            assert isinstance(change, bytes)
            new.writestr(f"{root}/{end}", change)
    return to


def _program(change: Callable[[dict], None]) -> Mapping[str, Callable[[bytes], bytes]]:
    def of_text(content: bytes) -> bytes:
        program = json.loads(content)
        change(program)
        return json.dumps(program).encode()

    return {"models/model.json": of_text}


def _command(marker: Path) -> str:
    return f"__import__('os').system('touch {marker}')"


def by_sample_inputs(marker: Path, work: Path) -> Mapping[str, Any]:
    return {"sample_inputs/model.pt": checkpoint(work / "inputs.pt", marker).read_bytes()}


def by_pickled_weight(marker: Path, work: Path) -> Mapping[str, Any]:
    def says_pickle(content: bytes) -> bytes:
        table = json.loads(content)
        first = next(iter(table["config"].values()))
        first["use_pickle"], first["path_name"] = True, "weight_9"
        return json.dumps(table).encode()

    bomb = checkpoint(work / "weight.pt", marker).read_bytes()
    return {"model_weights_config.json": says_pickle, "data/weights/weight_9": bomb}


def by_opaque_constant(marker: Path, work: Path) -> Mapping[str, Any]:
    meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    table = json.dumps({"config": {"thing": meta}}).encode()
    return {"model_constants_config.json": table, "data/constants/opaque_obj_0": pickled(marker)}


def by_old_constants(marker: Path, work: Path) -> Mapping[str, Any]:
    return {"data/constants/model.pt": checkpoint(work / "constants.pt", marker).read_bytes()}


def by_file(marker: Path, work: Path) -> Mapping[str, Any]:
    """An operator that makes a file of any name."""

    def change(program: dict) -> None:
        graph = program["graph_module"]["graph"]
        given = {"filename": {"as_string": str(marker)}, "shared": {"as_bool": True}, "size": {"as_int": 4}}
        inputs = [{"name": name, "arg": arg, "kind": 1} for name, arg in given.items()]
        outputs, meta = [{"as_tensor": {"name": "made"}}], next(iter(graph["tensor_values"].values()))
        graph["tensor_values"]["made"] = {**meta, "sizes": [{"as_int": 4}], "strides": [{"as_int": 1}]}
        target = {"target": "torch.ops.aten.from_file.default", "name": "made", "metadata": {}}
        graph["nodes"].insert(0, target | {"inputs": inputs, "outputs": outputs})

    return _program(change)


def by_size(marker: Path, work: Path) -> Mapping[str, Any]:
    def change(program: dict) -> None:
        for meta in program["graph_module"]["graph"]["tensor_values"].values():
            for size in meta["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = f"Integer({_command(marker)}) + 5"

    return _program(change)


def size_in_disguise(marker: Path, work: Path) -> Mapping[str, Any]:
    """SymPy evaluates the texts in a dict, too."""

    def change(program: dict) -> None:
        for meta in program["graph_module"]["graph"]["tensor_values"].values():
            for size in meta["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = {"as_string": _command(marker)}

    return _program(change)


def text_as_an_input(marker: Path, work: Path) -> Mapping[str, Any]:
    """It would be compared in code that is made of it."""
    value = {"as_string": f"' + str({_command(marker)}) + '"}
    return _program(lambda program: program["graph_module"]["graph"]["inputs"].append(value))


def parameter_of_a_class(marker: Path, work: Path) -> Mapping[str, Any]:
    def change(program: dict) -> None:
        for spec in program["graph_module"]["signature"]["input_specs"]:
            if "parameter" in spec:
                spec["parameter"]["parameter_name"] = "__class__.__base__.forward"

    return _program(change)


def function_as_an_argument(marker: Path, work: Path) -> Mapping[str, Any]:
    def change(program: dict) -> None:
        program["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = {"as_operator": "torch.os.system"}

    return _program(change)


def by_guard(marker: Path, work: Path) -> Mapping[str, Any]:
    return _program(lambda program: program["guards_code"].append(f"{_command(marker)} == 0"))


def by_name(marker: Path, work: Path) -> Mapping[str, Any]:
    def change(program: dict) -> None:
        """The name of an input becomes a parameter's default value in the code that is made of it."""
        evil, text = f"images={_command(marker)}", json.dumps(program["graph_module"])
        program["graph_module"] = json.loads(text.replace('"images"', json.dumps(evil)))

    return _program(change)


def by_structure(marker: Path, work: Path) -> Mapping[str, Any]:
    """A module that is imported because a defaultdict among the inputs is said to have its function."""
    (work / "their_module.py").write_text(f"import os\nos.system('touch {marker}')\nf = dict\n")

    def change(program: dict) -> None:
        about = {"default_factory_module": "their_module", "default_factory_name": "f", "dict_context": []}
        spec = {"type": "collections.defaultdict", "context": about, "children_spec": []}
        program["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps([1, spec])

    return _program(change)


PROGRAMS = (
    *(by_sample_inputs, by_pickled_weight, by_opaque_constant, by_old_constants),
    *(by_file, by_size, by_guard, by_name, by_structure),
)
# Of which it is not known how they would go off.
SUSPECT = (size_in_disguise, text_as_an_input, parameter_of_a_class, function_as_an_argument)


def old_program(file: Path, harmless: Path, marker: Path | None) -> Path:
    """A program in the form of PyTorch 2.7, its example inputs a bomb, or none."""
    with zipfile.ZipFile(harmless) as archive:
        program = archive.read(next(name for name in archive.namelist() if name.endswith("models/model.json")))
    part = file.with_suffix(".part")
    torch.save({**dict(Small().named_parameters()), **dict(Small().named_buffers())}, part)
    parts = {"version": b"8.8", "serialized_exported_program.json": program}
    parts["serialized_state_dict.pt"] = part.read_bytes()
    torch.save({}, part)
    parts["serialized_constants.pt"] = part.read_bytes()
    torch.save(((torch.zeros(2, 3, 64, 96),), {}), part)
    parts["serialized_example_inputs.pt"] = (checkpoint(part, marker) if marker else part).read_bytes()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file


def script(file: Path, marker: Path) -> Path:
    """A TorchScript program that writes a file."""

    class Writes(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            torch.save(images, self.place)
            return images.repeat(1, 4, 1, 1)[:, :11]

    model = Writes()
    model.place = str(marker)
    model.__annotations__ = {"place": str}
    torch.jit.script(model).save(str(file))
    return file
