"""The Triton kernels compiled for GPUs that need not be there: what they take of a processor."""

import os
import re
import subprocess
from importlib.util import find_spec

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from densedist.common.losses.dist.terms import Relation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1" or not find_spec("triton"), reason="needs Triton's compiler"
    ),
]
POINTERS = {torch.float64: "*fp64", torch.float32: "*fp32", torch.float16: "*fp16", torch.uint8: "*u8"}


# Operations that start nothing on a GPU.
FREE = {"alias", "detach", "empty", "empty_like", "new_empty", "select", "slice", "t", "transpose", "unsqueeze", "view"}


class Operations(TorchDispatchMode):
    """Remembers the names of PyTorch's operations."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.append(operation.overloadpacket.__name__)
        return operation(*args, **(kwargs or {}))


def launches(student, valid, activation, monkeypatch):
    """The kernels that a loss and its gradient start, each with its arguments and constants."""
    from densedist.common.losses.dist import triton_backend, triton_kernels

    started = []

    class Recorder:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            return lambda *arguments, **constants: started.append((self.kernel, arguments, constants))

    relation = Relation(1.0, 1.0, 1.0, activation, 1e-8)
    with monkeypatch.context() as patch:
        for name in ("shift", "sums", "center", "finish", "gradient"):
            patch.setattr(triton_kernels, name, Recorder(getattr(triton_kernels, name)))
        sums, _ = triton_backend.sums(student, student, valid, relation)
        _, slopes = triton_backend.finish(sums, relation)
        triton_backend.gradient(student, student, valid, relation, slopes, torch.ones(()))
    return started


def compiled(kernel, arguments, constants, architecture):
    """As Triton compiles such a launch."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types, known, aligned = {}, {}, {}
    for number, (name, value) in enumerate(zip(kernel.arg_names, arguments, strict=False)):
        if isinstance(value, torch.Tensor):
            types[name], aligned[(number,)] = POINTERS[value.dtype], [["tt.divisibility", 16]]
        elif value is None:
            types[name], known[(number,)] = "constexpr", None
        else:
            types[name] = "fp32" if isinstance(value, float) else "i32"
    own = {name: constants[name] for name in constants if name in kernel.arg_names}
    types |= dict.fromkeys(own, "constexpr")
    known |= {(kernel.arg_names.index(name),): value for name, value in own.items()}
    options = {name: value for name, value in constants.items() if name not in own}
    source = ASTSource(kernel, types, known, aligned)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize(
    ("shape", "dtype", "activation"),
    [((2, 19, 64, 128), torch.float32, "softmax"), ((4800, 80), torch.float16, "sigmoid")],
)
def test_kernels_leave_room_for_others_and_shuffle_little(
    shape, dtype, activation, architecture, monkeypatch, tmp_path
):
    from triton import knobs

    from densedist.common.losses.dist.triton_backend import REGISTERS

    student = torch.zeros(shape, dtype=dtype)
    valid = torch.ones(shape[0], *shape[2:], dtype=torch.bool)
    found = {}
    for kernel, arguments, constants in launches(student, valid, activation, monkeypatch):
        made = compiled(kernel, arguments, constants, architecture)
        binary = tmp_path / kernel.__name__
        binary.write_bytes(made.asm["cubin"])
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", binary]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        registers, stack = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))
        found[kernel.__name__] = registers, stack, made.asm["ptx"].count("shfl.sync")
    for name in ("sums", "gradient"):
        registers, stack, _ = found[name]
        assert registers <= REGISTERS
        assert stack == 0  # nothing was put out to memory
    # 5 to 8 sums over the classes of a row, each over 4 or 16 lanes of a warp.
    assert found["gradient"][2] <= 32


@pytest.mark.parametrize("masked", [False, True])
def test_one_operation_stands_between_the_kernels(masked, monkeypatch):
    """The sum over the programs: each further one would be a launch of some microseconds, twenty times in a step."""
    student = torch.zeros(2, 19, 64, 128)
    valid = torch.ones(2, 64, 128, dtype=torch.bool) if masked else None
    with Operations() as seen:
        started = launches(student, valid, "softmax", monkeypatch)
    assert len(started) == 5
    assert [name for name in seen.names if name not in FREE] == ["sum", "ones"]  # ones: the upstream gradient


def test_order_in_memory_needs_no_kernel_of_its_own(monkeypatch):
    """Nor do sizes."""
    student = torch.zeros(2, 19, 64, 128)
    seen = []
    for logits in (student, student.contiguous(memory_format=torch.channels_last), student[:, :, 1:, 1:]):
        for kernel, arguments, constants in launches(logits, None, "softmax", monkeypatch):
            skipped = {p.name for p in kernel.params if p.do_not_specialize}
            named = zip(kernel.arg_names, arguments, strict=False)
            fixed = {n: v for n, v in named if isinstance(v, int) and n not in skipped}
            seen.append((kernel.__name__, tuple(fixed.items()), tuple(constants.items())))
    assert len(set(seen)) == 5
