"""Every loss on every tap of every pair trains a step, or is refused in one line when it is built."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from detectron2.structures import BitMasks
from detectron2.utils.events import EventStorage
from torch import nn

from densedist.common.distill.build import build_distiller
from densedist.common.distill.registry import LOSSES
from densedist.common.errors import UserError
from densedist.seg.labels import Classes
from densedist.seg.models import build_segmenter
from densedist.seg.networks.taps import tap_specs, taps
from helpers import scenes, tiny

RETINANET = (tiny.DIGITS / "retinanet_r10_quarter.yaml", tiny.DIGITS / "retinanet_r10t.yaml")
CASCADE = ["MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"]
LOCATIONS = ["DISTILL.DENSE_ROWS", "locations"]
FEATURES = ["DISTILL.DIST.WEIGHT", "0.0", "DISTILL.PKD.WEIGHT", "1.0"]
AUX = ["MODEL.AUX_HEAD.ENABLED", "True"]
EVERYTHING = {"cls_logits", "logit_maps", "aux_logits", "features", "images", "cells", "rois", "classes"}
EVERYTHING |= {"boxes", "deltas", "refined_boxes", "refined_deltas", "proposals", "masks", "crossed_1"}
DIMENSIONS = {"maps": 4, "masks": 4, "rows": 2, "samples": 2, "boxes": 2, "proposals": 2, "crossed": 2}
PAIRS = {
    "Faster R-CNN": ("det", tiny.STUDENT, tiny.TEACHER, []),
    "Cascade R-CNN": ("det", tiny.STUDENT, tiny.TEACHER, CASCADE),
    "Mask R-CNN": ("det", tiny.STUDENT, tiny.TEACHER, ["MODEL.MASK_ON", "True"]),
    "RetinaNet": ("det", *RETINANET, []),
    "RetinaNet from an R-CNN": ("det", RETINANET[0], tiny.TEACHER, FEATURES),
    "Faster R-CNN from a RetinaNet": ("det", tiny.STUDENT, RETINANET[1], FEATURES),
    "RetinaNet, locations": ("det", *RETINANET, LOCATIONS),
    "PSPNet": ("seg", scenes.STUDENT, scenes.TEACHER, []),
    "PSPNet with an auxiliary head": ("seg", scenes.STUDENT, scenes.TEACHER, AUX),
}


class Keep(nn.Module):
    """Asks for taps and keeps them."""

    def __init__(self, needed, targets):
        super().__init__()
        self.needed, self.targets = needed, targets

    def forward(self, taps):
        targets = {name: taps[name].targets() for name in self.targets}  # while the student is as it was
        self.seen = {
            name: replace(tap, targets=partial(targets.get, name)) if name in targets else tap
            for name, tap in taps.items()
        }
        return {}


def detection(student, teacher, keys, folder, labeled):
    """Config, specs, and taps of a batch, whose labels may be missing."""
    cfg = tiny.config(student, *keys, *tiny.save_teacher(folder, file=teacher))
    model = tiny.build_student(cfg).train()
    inputs = tiny.batch() if labeled else [{"image": x["image"]} for x in tiny.batch()]
    if labeled:
        for x in inputs:
            x["instances"].gt_masks = BitMasks(torch.ones(3, *x["image"].shape[1:], dtype=torch.bool))
    teacher = model.distillation.teacher
    specs = model.tap_specs(teacher)
    both = specs[0].keys() & specs[1].keys()
    groups = [(group, both & group.specs(model, teacher)[0].keys()) for group in model.tap_groups(teacher)]
    model.watched = [(group, taps) for group, taps in groups if taps]
    kept = model.distillation.distiller = Keep(both, {name for name in both if specs[0][name].targets})
    with EventStorage():
        model(inputs)
    return cfg, specs, [kept.seen]


def segmentation(student, teacher, keys, folder, labeled):
    """The same, and the taps where some places of class logits do not count."""
    cfg = scenes.config(student, *keys, *scenes.save_teacher(folder, *keys, file=teacher))
    model = build_segmenter(cfg).train()
    inputs = scenes.batch(4)
    images, labels = [x["image"] for x in inputs], torch.stack([x["sem_seg"] for x in inputs])
    labels = labels if labeled else torch.full_like(labels, 255)
    batch = model.network.preprocess(images)
    student = model.network(batch)
    taught = model.distillation.teacher.output(images, student, batch.shape[2:])
    sides = (model.network, model.distillation.teacher.model)
    specs = tuple(tap_specs(side, len(Classes.of(cfg)), 0.4) for side in sides)
    both = specs[0].keys() & specs[1].keys()
    valid = {name: torch.rand(x.shape[:1] + x.shape[2:]) < 0.7 for name, x in student.items() if "logit" in name}
    return cfg, specs, [taps(both, student, taught, labels, masks) for masks in (None, valid)]


def built(cfg, specs):
    """The distiller, or why there is none."""
    try:
        return build_distiller(cfg, *specs)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("labeled", [True, False], ids=["labels", "no labels"])
@pytest.mark.parametrize("name", PAIRS)
def test_every_loss_on_every_tap_trains_or_is_refused(name, labeled, tmp_path, monkeypatch):
    side, student, teacher, keys = PAIRS[name]
    torch.manual_seed(0)
    make = detection if side == "det" else segmentation
    cfg, specs, seen = make(student, teacher, keys, tmp_path / "teacher", labeled)
    assert set(seen[0]) == set(specs[0]) & set(specs[1])
    for of_side, declared in (("student", specs[0]), ("teacher", specs[1])):
        for tap, spec in ((tap, declared[tap]) for tap in seen[0]):
            shapes = [x.shape for x in getattr(seen[0][tap], of_side)]
            assert all(len(shape) == DIMENSIONS[spec.kind] for shape in shapes), tap
            assert all(s[1] == c for s, c in zip(shapes, spec.channels, strict=labeled)), tap
    trained, refused = set(), set()
    for loss, spec in LOSSES.items():
        for tap in sorted(EVERYTHING):
            monkeypatch.setattr("densedist.common.distill.build.LOSSES", {loss: replace(spec, tap=tap)})
            cfg.DISTILL[loss].WEIGHT = 1.0
            distiller = built(cfg, specs)
            if isinstance(distiller, str):
                assert distiller.startswith(f"DISTILL.{loss}")
                assert "\n" not in distiller
                refused.add((loss, tap))
                continue
            for given in seen:
                total = sum(distiller(given).values())
                assert total.isfinite(), (loss, tap)
                assert total.requires_grad, (loss, tap)
                total.backward(retain_graph=True)
            trained.add((loss, tap))
    alike = "from" not in name
    logits = {("DIST", "cls_logits"), ("KD", "cls_logits")} if alike else set()
    assert logits | {("MIMIC", "features"), ("RKD", "images"), ("MGD", "features"), ("CIRKD", "features")} <= trained
    assert (("FGD", "features") in trained) == (side == "det")
    assert (("DKD", "cls_logits") in trained) == (alike and "RetinaNet" not in name)
    assert (("BOX", "boxes") in trained) == (("BOX", "deltas") in trained) == (alike and side == "det")
    assert (("BOX", "refined_boxes") in trained) == (("RPN", "proposals") in trained) == (alike and "R-CNN" in name)
    assert (("CROSSKD", "crossed_1") in trained) == (alike and name.startswith("RetinaNet"))
    assert (("MASK", "masks") in trained) == (name == "Mask R-CNN")
    assert {("DIST", "features"), ("MIMIC", "images"), ("CWD", "cells"), ("RKD", "cls_logits")} <= refused
    assert (("CWD", "cls_logits") in trained) == (side == "seg")  # a bare ValueError in the first step, once
    assert (("CWD", "logit_maps") in trained) == (side == "seg" or (alike and "RetinaNet" in name))
