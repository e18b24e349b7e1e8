"""DISTILL.MASK: the pixels of the student's foreground RoIs, for the class that the teacher finds likeliest."""

import pytest
import torch
from detectron2.structures import BitMasks
from detectron2.utils.events import EventStorage
from torch.nn import functional as F

from densedist.common.errors import UserError
from densedist.common.losses import MaskLoss
from densedist.common.modules import record
from helpers.tiny import STUDENT, batch, build_student, config, save_teacher

MASK = ["MODEL.MASK_ON", "True", "DISTILL.DIST.WEIGHT", "0.0", "DISTILL.MASK.WEIGHT", "2.0"]
AGNOSTIC = ["MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "True"]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    finer = ["MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", "14"]  # as the student's
    return {
        "specific": save_teacher(folder / "specific"),
        "agnostic, finer": save_teacher(folder / "agnostic", *AGNOSTIC, *finer),
    }


def build(*overrides):
    torch.manual_seed(0)
    model = build_student(config(STUDENT, *MASK, *overrides)).train()
    for side in (model, model.distillation.teacher.model):
        torch.nn.init.normal_(side.roi_heads.mask_head.predictor.weight, std=0.5)
    return model


def labeled():
    inputs = batch()
    for x in inputs:
        x["instances"].gt_masks = BitMasks(torch.rand(3, *x["image"].shape[1:]) < 0.5)
    return inputs


@pytest.mark.parametrize("kind", ["dist", "kd"])
@pytest.mark.parametrize("student", [[], AGNOSTIC])
@pytest.mark.parametrize("teacher", ["specific", "agnostic, finer"])
def test_masks_of_the_likeliest_class(teachers, teacher, student, kind):
    model = build(*teachers[teacher], *student, "DISTILL.MASK.KIND", kind, "DISTILL.MASK.TAU", "2.0")
    inputs, heads = labeled(), model.roi_heads
    with (
        EventStorage(),
        record(heads.mask_pooler, lambda args, _: args[1]) as rois,
        record(heads.mask_head.predictor, lambda _, output: output) as ours,
    ):
        losses = model(inputs)
    taught = model.distillation.teacher.model
    with torch.no_grad():
        maps = taught.backbone(taught.preprocess_image(inputs).tensor)
        boxes, masks = (
            pool([maps[name] for name in names], rois[0])
            for pool, names in (
                (taught.roi_heads.box_pooler, taught.roi_heads.box_in_features),
                (taught.roi_heads.mask_pooler, taught.roi_heads.mask_in_features),
            )
        )
        scores, _ = taught.roi_heads.box_predictor[0](taught.roi_heads.box_head[0](boxes))
        theirs = taught.roi_heads.mask_head.layers(masks)
    mine, wanted = [], []
    for row, probabilities in enumerate(scores.softmax(1)):
        number = int(probabilities[:-1].argmax())
        if probabilities[:-1].sum() > 0.5:
            mine.append(ours[0][row, number if not student else 0])
            wanted.append(theirs[row, number if teacher == "specific" else 0])
    assert 1 < len(mine) <= len(scores)
    mine, wanted = torch.stack(mine)[:, None], torch.stack(wanted)[:, None]
    assert wanted.shape[-1] == (10 if teacher == "specific" else 28)
    if teacher == "specific":
        wanted = F.interpolate(wanted, mine.shape[2:], mode="bilinear")
    loss = MaskLoss(kind, 2.0)(mine, wanted)
    torch.testing.assert_close(losses["loss_mask_distill"], 2 * loss, rtol=1e-4, atol=1e-6)
    losses["loss_mask_distill"].backward()
    assert heads.mask_head.predictor.weight.grad.abs().sum() > 0


def test_images_without_labels_teach_masks_on_the_best_proposals(teachers):
    model = build(*teachers["specific"])
    with record(model.roi_heads.mask_pooler, lambda args, _: [len(x) for x in args[1]]) as counts:
        losses = model([{"image": x["image"]} for x in batch()])
    assert set(losses) == {"loss_mask_distill_unlabeled"}
    assert losses["loss_mask_distill_unlabeled"].requires_grad
    assert counts[0] == [8, 8]  # a quarter of the RoIs of an image


def test_no_object_gives_a_zero_with_gradient(teachers):
    model = build(*teachers["specific"])
    for predictor in model.distillation.teacher.model.roi_heads.box_predictor:
        predictor.cls_score.bias.data[-1] = 100  # all is background
    with EventStorage():
        losses = model(labeled())
    assert losses["loss_mask_distill"] == 0
    assert losses["loss_mask_distill"].requires_grad


def test_pairs_without_masks_are_refused(teachers, tmp_path):
    for side in (["MODEL.MASK_ON", "False"], []):
        keys = teachers["specific"] if side else save_teacher(tmp_path, "MODEL.MASK_ON", "False")
        with pytest.raises(UserError, match=r"DISTILL.MASK needs masks, .* \(MODEL.MASK_ON has to be True on both"):
            build_student(config(STUDENT, *MASK, *keys, *side))
