"""Programs of torch.export from strangers: those that only compute run as they are, what could do more needs trust."""

import re
from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from densedist.common.config.trust import REMEDY
from densedist.common.errors import UserError
from densedist.common.foreign import exported
from densedist.common.foreign.programs import read_program
from helpers import bombs

IMAGES = torch.rand(3, 3, 32, 48)


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return bombs.export(tmp_path_factory.mktemp("exported") / "model.pt2")


def run(file, trust):
    """Whatever comes of it: many of these are no program that runs to its end."""
    try:
        return read_program("torch_export", str(file), "cpu", trust, "KEY").run(IMAGES)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("hidden", bombs.PROGRAMS + bombs.SUSPECT, ids=lambda made: made.__name__)
def test_what_could_run_anything_needs_trust(harmless, tmp_path, monkeypatch, hidden):
    monkeypatch.syspath_prepend(tmp_path)
    marker = tmp_path / "marker"
    bomb = bombs.changed(harmless, tmp_path / "model.pt2", hidden(marker, tmp_path))
    message = run(bomb, False)
    assert not marker.exists()
    assert re.fullmatch(rf"KEY: {bomb}: .* can run any program that its author hid in it; {REMEDY}", message)
    assert "\n" not in message
    if hidden in bombs.PROGRAMS:
        with suppress(Exception):  # what comes of it is no matter
            run(bomb, True)
        assert marker.exists()  # so the file is what it is meant to be


@pytest.mark.parametrize(
    ("is_allowed", "texts"),
    [
        (
            exported._is_operator,
            {
                "torch.ops.aten.add.Tensor": True,
                "torch.ops.torchvision.nms.default": True,
                "_operator.floordiv": True,
                "torch.sym_max": True,
                "torch.os.system": False,
                "torch.hub.load": False,
                "_operator.methodcaller": False,
                "torch.ops.aten.from_file.default": False,
                "torch.ops.image.write_file.default": False,
                "torch.ops.aten.__class__.mro": False,
                "math.__loader__": False,
            },
        ),
        (
            exported._is_size,
            {
                "Add(Symbol('s0', positive=True, integer=True), Integer(-1))": True,
                "s0 + 1": True,
                "eval('1')": False,
                "Symbol('__import__(1)')": False,
                "s0.__class__": False,
                "s0[0]": False,
                "s0 + \n1": False,
                "(lambda: 0)()": False,
            },
        ),
        (
            exported._is_guard,
            {
                "L['images'].size()[2] % 32 == 0": True,
                "math.floor(L['images'].size()[0] / 2) >= torch.sym_float(1)": True,
                "L['images'].__class__ == 1": False,
                "math.__loader__ == 1": False,
                "torch.os == 1": False,
                "open('x')": False,
                "'\"'": False,
            },
        ),
    ],
    ids=["operators", "sizes", "guards"],
)
def test_what_a_program_may_say(is_allowed, texts):
    assert {text: bool(exported._holds(is_allowed, text)) for text in texts} == texts


def test_the_old_form_of_the_archive(harmless, tmp_path):
    marker = tmp_path / "marker"
    bomb = bombs.old_program(tmp_path / "model.pt2", harmless, marker)
    assert run(bomb, False) == (
        f"KEY: {bomb}: its example inputs hold more than tensors and plain values, and reading that can run any "
        f"program that its author hid in it; {REMEDY}"
    )
    assert not marker.exists()
    with suppress(Exception):  # what comes of it is no matter
        run(bomb, True)
    assert marker.exists()


def test_compiled_parts_of_an_archive_are_not_seen_by_the_loader(harmless, tmp_path):
    """Libraries of AOTInductor would be opened when the archive is loaded."""
    bomb = bombs.changed(harmless, tmp_path / "model.pt2", {"data/aotinductor/model/evil.so": b"not checked"})
    assert b"aotinductor" not in exported.checked_copy(str(bomb), "model.json").getvalue()
    wanted = torch.export.load(harmless).module()(IMAGES)
    assert torch.equal(run(bomb, False), wanted)


def test_a_program_that_only_computes_is_the_same(harmless, tmp_path):
    wanted = torch.export.load(harmless).module()(IMAGES)
    assert torch.equal(run(harmless, False), wanted)
    old = bombs.old_program(tmp_path / "old.pt2", harmless, None)
    assert torch.equal(run(old, False), wanted)


class Varied(nn.Module):
    """Blocks without gradients and in another precision, operators with words, an assertion, sizes that depend."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 11, 1)

    def forward(self, images):
        torch._check(images.shape[2] > 3)
        with torch.no_grad():
            logits = self.head(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            more = self.head(images)
        mixed = torch.einsum("bchw,bdhw->bcd", logits, more.float()).mean()
        half = F.interpolate(logits, size=(images.shape[2] // 2, max(images.shape[3] // 2, 1)), mode="bilinear")
        return F.gelu(half, approximate="tanh") + mixed


def test_what_programs_are_made_of_is_taken(tmp_path):
    dynamic = torch.export.Dim.DYNAMIC
    shapes = ({0: dynamic, 2: dynamic, 3: dynamic},)
    program = torch.export.export(Varied().eval(), (torch.rand(2, 3, 64, 96),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "model.pt2")
    wanted = torch.export.load(tmp_path / "model.pt2").module()(IMAGES)
    assert torch.equal(run(tmp_path / "model.pt2", False), wanted)
