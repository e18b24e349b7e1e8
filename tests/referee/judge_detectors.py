"""Detectors as teachers: each part says what the author's network says, and so does whole inference, or it is refused.

Anchors of a place may come in another order here; each is found by its width and height.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes
from PIL import Image
from torch import Tensor

from densedist.common.config.keys import value_of
from densedist.common.errors import UserError
from densedist.common.import_checkpoint import import_checkpoint
from densedist.common.run_files import locate
from densedist.det.data.reading import read_input
from densedist.det.inference.predict import predict
from densedist.det.models import Trained, load_trained
from densedist.det.taps.rois import live_class_logits
from densedist.det.task import TASK
from densedist.det.teacher_loading import load_teacher
from helpers.tiny import STUDENT, config
from referee.det_authors import FORMS
from referee.det_authors.detectron2 import parts_of
from referee.det_authors.handing import BOXES, Found, Handed, Handing, Truth, picture
from referee.judge import quiet
from referee.situations import folder

SLACK = 2e-3  # of the largest number of a part, in float32
PIXELS = 0.1  # by which a box may be off
STRAY = 0.05  # the share of objects that may differ: boxes that overlap by nearly a threshold
MAPS = "rpn_logits", "rpn_deltas"


def judge(handing: Handing) -> str:
    """Say "taken", as its author means it, or the line by which it was refused.

    Raises:
        AssertionError: other numbers than the author's, or a refusal without a reason.
    """
    form = FORMS[handing.form]
    usual = {name: values[0] for name, values in form.choices.items()}
    with folder() as where, quiet():
        (Path(where) / "theirs").mkdir()
        handed = form.write(Path(where) / "theirs", handing.seed, usual | dict(handing.varied))
        try:
            trained = _take(handed, Path(where) / "ours")
        except UserError as error:
            line = str(error)
            assert "\n" not in line, line
            reason = handed.truth is None or len(handing.varied) > 1 or set(handing.varied) & form.may
            assert reason, f"refused without a reason: {line}"
            return line
        assert handed.truth is not None, "taken, though nobody knows what it is"
        assert trained.model.training is False
        _same_parts(trained, handed.truth, picture(handing.seed))
        _same_whole(trained, handed, picture(handing.seed), Path(where))
        if handed.config:
            _teaches(handed, handed.truth, picture(handing.seed))
        return "taken"


def _take(handed: Handed, output: Path) -> Trained:
    if handed.config:
        return load_trained(locate(str(handed.file)).under("MODEL.DEVICE", "cpu"))
    import_checkpoint(TASK, str(handed.file), output, "", handed.options, handed.words)
    return load_trained(locate(str(output)).under("MODEL.DEVICE", "cpu"))


def _same_parts(trained: Trained, truth: Truth, rgb: Tensor) -> None:
    model: Any = trained.model
    dense = hasattr(model, "head")
    count = model.num_classes if dense else model.roi_heads.num_classes
    assert count == truth.classes, f"{count} classes, not {truth.classes}"
    for key, wanted in truth.keys.items():
        assert value_of(trained.cfg, key) == wanted, f"{key} is {value_of(trained.cfg, key)}, not {wanted}"
    generator = model.anchor_generator if dense else model.proposal_generator.anchor_generator
    orders = _orders(generator.cell_anchors, truth.anchors)
    found, wanted = dict(parts_of(model, trained.cfg, rgb)), truth.parts(rgb)
    for name in ("logits", "deltas") if dense else MAPS:
        found[name] = [
            x.unflatten(1, (len(order), -1))[:, order].flatten(1, 2)
            for x, order in zip(found[name], orders, strict=True)
        ]
    _close(found, wanted)


def _orders(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[Tensor]:
    """Which of our anchors each of theirs is, for each map."""
    orders = []
    assert len(ours) == len(theirs), f"anchors of {len(ours)} maps, not of {len(theirs)}"
    for mine, sides in zip(ours, theirs, strict=True):
        far = torch.cdist(sides.double(), (mine[:, 2:] - mine[:, :2]).double())
        assert far.amin(1).max() < PIXELS, f"anchors are off by {far.amin(1).max():.2f} pixels"
        orders.append(far.argmin(1))
        assert len(orders[-1].unique()) == len(mine) == len(sides), "anchors are others"
    return orders


def _close(found: Mapping[str, Sequence[Tensor]], wanted: Mapping[str, Sequence[Tensor]]) -> None:
    assert found.keys() == wanted.keys()
    for name, theirs in wanted.items():
        for ours, one in zip(found[name], theirs, strict=True):
            assert ours.shape == one.shape, f"{name}: {tuple(ours.shape)}, not {tuple(one.shape)}"
            assert one.isfinite().all(), f"{name} of the author is not finite"
            off = float((ours - one).abs().max() / one.abs().max())
            assert off < SLACK, f"{name} is off by {off:.4f} of the largest"


def _same_whole(trained: Trained, handed: Handed, rgb: Tensor, where: Path) -> None:
    assert handed.truth is not None
    if handed.truth.whole is None:
        return
    if handed.config:
        rgb = rgb[:, :100, :120]
        Image.fromarray(rgb.permute(1, 2, 0).numpy()).save(where / "image.png")
        sample, _ = read_input(trained.cfg, where / "image.png")
    else:  # images of its size are not resized
        sample = {"image": rgb if trained.cfg.INPUT.FORMAT == "RGB" else rgb.flip(0)}
    found, wanted = predict(trained.model, sample), handed.truth.whole(rgb)
    ours = Found(found.pred_boxes.tensor, found.scores, found.pred_classes)
    _same_objects(ours, _not_empty(wanted))


def _not_empty(found: Found) -> Found:
    kept = ((found.boxes[:, 2:] - found.boxes[:, :2]) > 0).all(1)
    return Found(found.boxes[kept], found.scores[kept], found.classes[kept])


def _same_objects(ours: Found, theirs: Found) -> None:
    allowed = int(STRAY * len(theirs.scores))
    both = len(ours.scores), len(theirs.scores)
    assert abs(both[0] - both[1]) <= allowed, f"{both[0]}, not {both[1]} objects"
    if not all(both):
        return
    apart = (ours.boxes[:, None] - theirs.boxes[None]).abs().amax(2) > PIXELS
    apart |= (ours.scores[:, None] - theirs.scores[None]).abs() > SLACK
    apart |= ours.classes[:, None] != theirs.classes[None]
    alone = int(apart.all(0).sum())
    assert alone <= allowed, f"{alone} of {len(theirs.scores)} objects of its author are not found, or are others"


def _teaches(handed: Handed, truth: Truth, rgb: Tensor) -> None:
    """A student with another order of channels asks it for class logits."""
    files = ["DISTILL.TEACHER.WEIGHTS", str(handed.file)]
    files += ["DISTILL.TEACHER.CONFIG_FILE", str(handed.file.parent / handed.config)]
    student = config(STUDENT, "INPUT.FORMAT", "RGB", *files)
    if truth.classes != student.MODEL.ROI_HEADS.NUM_CLASSES:
        with pytest.raises(UserError, match="distillation needs the same classes"):
            load_teacher(student)
        return
    teacher = load_teacher(student)
    wanted = truth.parts(rgb)
    if "boxes" in wanted:
        found = live_class_logits(teacher, [rgb], [[Boxes(BOXES)]] * len(wanted["logits"]))
        _close({"logits": found[:1]}, {"logits": wanted["logits"][:1]})
