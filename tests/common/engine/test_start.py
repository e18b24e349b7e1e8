"""Weights to start from: how much of them fits a student is said, and another model's are refused."""

import re

import pytest
import torch
from torch import nn

from densedist.common.engine.start import load_start
from densedist.common.errors import UserError


def blocks(count, width=8):
    return nn.Sequential(*(nn.Conv2d(width, width, 3) for _ in range(count)))


def model(depth=4, width=8, classes=3, extra=()):
    """A backbone and a head with two outputs; what it has beside them."""
    head = nn.ModuleDict({"inner": nn.Linear(width, width), "outer": nn.Linear(width, classes)})
    return nn.ModuleDict({"backbone": blocks(depth, width), "head": head, **dict(extra)})


def start(tmp_path, student, tensors, trunk="backbone"):
    torch.save({"model": tensors}, tmp_path / "w.pth")
    return load_start(student, str(tmp_path / "w.pth"), "MODEL.WEIGHTS", False, trunk)


def test_the_same_model_is_nothing_to_speak_of(tmp_path):
    student, other = model(), model()
    assert start(tmp_path, student, other.state_dict()).note == ""
    assert torch.equal(student["backbone"][0].weight, other["backbone"][0].weight)
    assert load_start(student, "", "MODEL.WEIGHTS", False, "backbone").note == ""


@pytest.mark.parametrize(
    ("theirs", "note"),
    [
        (model(classes=5), r"2,408 of 2,435 parameters come from it; not head.outer"),
        ({"backbone": blocks(4)}, r"2,336 of 2,435 parameters come from it; not head"),
        (model(extra={"mask": blocks(2, 2)}), r"2,435 of 2,435 parameters come from it; the file also has mask"),
        (model(depth=6), r"2,435 of .*; the file also has backbone.4, backbone.5"),
    ],
    ids=["other classes", "a backbone alone", "one more head", "a deeper backbone"],
)
def test_what_fits_in_part_is_said_in_one_line_by_modules(tmp_path, capfd, caplog, theirs, note):
    theirs = theirs if isinstance(theirs, nn.Module) else nn.ModuleDict(theirs)
    found = start(tmp_path, model(), theirs.state_dict())
    assert re.fullmatch(note, found.note)
    assert "Skip loading" not in caplog.text + capfd.readouterr().out


def test_at_most_six_modules_are_named_the_outermost_first(tmp_path):
    student = model(extra={f"more{n}": nn.Linear(1, 1) for n in range(9)})
    found = start(tmp_path, student, model(depth=3).state_dict())
    assert found.note.endswith("; not more0, more1, more2, more3, more4, more5 and 4 more")
    assert len(found.unfilled) == 20


@pytest.mark.parametrize(
    ("theirs", "wanted"),
    [
        (model(width=4), "fills 0% of the model's backbone, want 75% or more; its backbone.0.weight is (4, 4, 3, 3), "),
        (model(depth=2), "fills 50% of the model's backbone, want 75% or more; name weights of this model, or of its "),
        (
            model(depth=2, extra={"mask": blocks(1)}),
            "want 75% or more; it holds backbone, head, mask, the model has backbone, head; name weights of this model",
        ),
    ],
    ids=["of another width", "of another depth", "with another head"],
)
def test_another_backbone_is_refused_though_heads_may_fit(tmp_path, theirs, wanted):
    tensors = theirs.state_dict() | {n: x for n, x in model().state_dict().items() if n.startswith("head")}
    with pytest.raises(UserError) as error:
        start(tmp_path, model(), tensors)
    assert str(error.value).startswith(f"MODEL.WEIGHTS: {tmp_path}/w.pth: of another model: it fills ")
    assert wanted in str(error.value)


def test_heads_alone_will_do_where_the_file_has_no_backbone(tmp_path):
    """As where timm fills the backbone."""
    heads = {name: x for name, x in model().state_dict().items() if name.startswith("head")}
    assert start(tmp_path, model(), heads).note.endswith("; not backbone")


def test_a_model_without_a_backbone_needs_one_whole_part(tmp_path):
    student = model(extra={"neck": nn.Linear(4, 4)})
    neck = {f"neck.{name}": x for name, x in nn.Linear(4, 4).state_dict().items()}
    assert start(tmp_path, student, neck, trunk="").note.endswith("; not backbone, head")
    with pytest.raises(UserError, match="fills 20% of the model's neck"):
        start(tmp_path, student, {"neck.bias": torch.ones(4)}, trunk="")
