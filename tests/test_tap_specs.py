"""Every loss on every tap of every pair trains a step, or is refused in one line when it is built."""

from dataclasses import replace

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from densedist.common.distill.build import build_distiller
from densedist.common.distill.registry import LOSSES
from densedist.common.errors import UserError
from densedist.seg.labels import Classes
from densedist.seg.models import build_segmenter
from densedist.seg.places import nearest
from densedist.seg.taps import tap_specs, taps
from helpers import scenes, tiny

RETINANET = (tiny.DIGITS / "retinanet_r10_quarter.yaml", tiny.DIGITS / "retinanet_r10t.yaml")
CASCADE = ["MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"]
LOCATIONS = ["DISTILL.DENSE_ROWS", "locations"]
AUX = ["MODEL.AUX_HEAD.ENABLED", "True"]
EVERYTHING = {"cls_logits", "logit_maps", "aux_logits", "features", "images", "cells", "rois", "classes"}
PAIRS = {
    "Faster R-CNN": ("det", tiny.STUDENT, tiny.TEACHER, []),
    "Cascade R-CNN": ("det", tiny.STUDENT, tiny.TEACHER, CASCADE),
    "RetinaNet": ("det", *RETINANET, []),
    "RetinaNet, locations": ("det", *RETINANET, LOCATIONS),
    "PSPNet": ("seg", scenes.STUDENT, scenes.TEACHER, []),
    "PSPNet with an auxiliary head": ("seg", scenes.STUDENT, scenes.TEACHER, AUX),
}


def detection(student, teacher, keys, folder, labeled):
    """Config, specs and taps of both sides for a batch, whose labels may be missing."""
    cfg = tiny.config(student, *keys, *tiny.save_teacher(folder, file=teacher))
    model = build_model(cfg).train()
    inputs = tiny.batch() if labeled else [{"image": x["image"]} for x in tiny.batch()]
    with EventStorage(), model.watch() as seen:
        super(type(model).__mro__[1], model).forward(inputs) if labeled else model.run_without_labels(inputs)
    specs = model.tap_specs(model.distillation.teacher)
    return cfg, specs, model.taps(EVERYTHING, inputs, seen), None


def segmentation(student, teacher, keys, folder, labeled):
    cfg = scenes.config(student, *keys, *scenes.save_teacher(folder, *keys, file=teacher))
    model = build_segmenter(cfg).train()
    inputs = scenes.batch(4)
    images, labels = [x["image"] for x in inputs], torch.stack([x["sem_seg"] for x in inputs])
    labels = labels if labeled else torch.full_like(labels, 255)
    batch = model.network.preprocess(images)
    student = model.network(batch)
    taught = model.distillation.teacher.output(images, student, batch.shape[2:])
    small = nearest(labels, student["features"].shape[2:])
    sides = (model.network, model.distillation.teacher.model)
    specs = tuple(tap_specs(side, len(Classes.of(cfg)), 0.4) for side in sides)
    needed = EVERYTHING - (set() if keys else {"aux_logits"})
    both = tuple(taps(needed, output, small) for output in (student, taught))
    valid = {
        name: [torch.rand(x[0].shape[:1] + x[0].shape[2:]) < 0.7] for name, x in both[0].items() if "logit" in name
    }
    return cfg, specs, both, valid


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
    cfg, specs, (ours, theirs), valid = make(student, teacher, keys, tmp_path / "teacher", labeled)
    for tensors, declared in ((ours, specs[0]), (theirs, specs[1])):
        assert set(tensors) == set(declared)
        for tap, spec in declared.items():
            shapes = [x.shape for x in tensors[tap]]
            assert all(len(shape) == (4 if spec.kind == "maps" else 2) for shape in shapes), tap
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
            for masks in (None, valid):
                total = sum(distiller(ours, theirs, masks).values())
                assert total.isfinite(), (loss, tap)
                total.backward(retain_graph=True)
            trained.add((loss, tap))
    assert {("DIST", "cls_logits"), ("KD", "cls_logits"), ("MIMIC", "features"), ("RKD", "images")} <= trained
    assert {("DIST", "features"), ("MIMIC", "images"), ("CWD", "cells"), ("RKD", "cls_logits")} <= refused
    assert (("CWD", "cls_logits") in trained) == (side == "seg")  # a bare ValueError in the first step, once
    assert (("CWD", "logit_maps") in trained) == (side == "seg" or "RetinaNet" in name)
