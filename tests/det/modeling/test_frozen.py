"""Frozen parts of a student: filled by weights, or refused before training."""

import re

import pytest
import timm
import torch
from detectron2.checkpoint.catalog import ModelCatalog

from densedist.common.config import load
from densedist.common.errors import UserError
from densedist.common.profile import as_if_trained
from densedist.det.config import GRAMMAR
from densedist.det.models import build, build_trainee, load_weights
from helpers.tiny import CONFIGS, DIGITS, STUDENT, TEACHER, config

RESNET = [
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.OUT_FEATURES", "['res2', 'res3', 'res4']"),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
]
REFUSAL = (
    "MODEL.WEIGHTS is empty, but parts of the backbone are frozen and would stay as they were initialized: name "
    "weights to start from, or train all of it (MODEL.BACKBONE.FREEZE_AT 0, and MODEL.RESNETS.NORM or MODEL.TIMM.NORM "
    "BN)"
)


@pytest.mark.parametrize(
    "overrides",
    [
        RESNET,
        [*RESNET, "MODEL.BACKBONE.FREEZE_AT", "0"],
        [*RESNET, "MODEL.RESNETS.NORM", "BN"],
        [*RESNET, "MODEL.RESNETS.NORM", ""],
        ["MODEL.TIMM.NORM", "FrozenBN"],
    ],
)
def test_frozen_parts_without_weights(overrides):
    with pytest.raises(UserError) as error:
        build_trainee(config(STUDENT, *overrides))
    assert str(error.value) == REFUSAL
    build_trainee(config(STUDENT, *overrides, "MODEL.WEIGHTS", "w.pth"))  # what is in there is seen later


@pytest.mark.parametrize(
    "overrides", [[*RESNET, "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.RESNETS.NORM", "BN"], ["MODEL.TIMM.NORM", "SyncBN"]]
)
def test_nothing_frozen_needs_no_weights(overrides):
    build_trainee(config(STUDENT, *overrides))


@pytest.mark.parametrize(
    "file", [STUDENT, TEACHER, DIGITS / "retinanet_r10_quarter.yaml", DIGITS / "retinanet_r10t.yaml"]
)
def test_shipped_configs_of_digits_train_from_nothing(file):
    cfg = config(file)
    assert not cfg.MODEL.WEIGHTS
    build_trainee(cfg)


def test_frozen_norms_that_timm_has_filled(monkeypatch):
    """As with MODEL.TIMM.PRETRAINED."""

    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained=False, **args: as_if_trained(create(name, **args))
    )
    build_trainee(config(STUDENT, "MODEL.TIMM.NORM", "FrozenBN"))


@pytest.mark.parametrize("name", ["cascade_mask_rcnn_x101", "retinanet_x101"])
def test_large_teachers_start_from_imagenet(name):
    cfg = load(GRAMMAR, str(CONFIGS / "det" / "coco" / f"{name}.yaml"))
    address = ModelCatalog.get(cfg.MODEL.WEIGHTS.removeprefix("catalog://"))
    assert address.endswith("ImageNetPretrained/FBResNeXt/X-101-64x4d.pkl")
    # Detectron2's catalog says of all weights of this kind: PIXEL_STD=[1,1,1].
    assert cfg.MODEL.PIXEL_STD == [1.0, 1.0, 1.0]
    assert cfg.MODEL.PIXEL_MEAN == [102.9801, 115.9465, 122.7717]
    assert cfg.INPUT.FORMAT == "BGR"


def test_map_that_the_backbone_has_not():
    with pytest.raises(UserError) as error:
        build_trainee(config(DIGITS / "retinanet_r10_quarter.yaml", "MODEL.RETINANET.IN_FEATURES", "['p3', 'p7']"))
    assert str(error.value) == (
        "MODEL: the backbone build_timm_fpn_backbone has no map p7, which IN_FEATURES of MODEL.RPN, MODEL.ROI_HEADS "
        "or MODEL.RETINANET asks for: correct it, or take another backbone (RetinaNet's p6 and p7 on timm: "
        "build_timm_retinanet_fpn_backbone)"
    )


def saved(folder, tensors):
    file = folder / "w.pth"
    torch.save({"model": tensors}, file)
    return str(file)


def test_frozen_parts_filled_in_part_are_refused(tmp_path):
    """As by weights of a ResNet of another depth, whose stem and norms fit."""
    model = build(config(STUDENT, *RESNET, "MODEL.WEIGHTS", "w.pth"))
    frozen = [name for name, p in model.backbone.named_parameters() if not p.requires_grad]
    # Of res2 every convolution has another shape.
    tensors = {
        name: torch.rand(*x.shape, 2) if name in {f"backbone.{one}" for one in frozen[1:]} else torch.rand_like(x)
        for name, x in model.state_dict().items()
    }
    file = saved(tmp_path, tensors)
    with pytest.raises(UserError) as error:
        load_weights(model, file, "MODEL.WEIGHTS", False)
    assert re.fullmatch(
        rf"MODEL.WEIGHTS: {file} does not fill {len(frozen) - 1} of \d+ frozen tensors of the backbone, first backbone."
        rf"{frozen[1]}, and they would stay as they were initialized: {re.escape(REFUSAL.split(': ')[1])}",
        str(error.value),
    )
    whole = saved(tmp_path, {name: torch.rand_like(x) for name, x in model.state_dict().items()})
    load_weights(model, whole, "MODEL.WEIGHTS", False)


@pytest.mark.parametrize("filled", [True, False])
def test_weights_without_a_frozen_backbone(tmp_path, filled):
    """They will do where timm has filled it."""
    model = build(config(STUDENT, "MODEL.TIMM.NORM", "FrozenBN"))
    if filled:
        for buffer in model.backbone.buffers():
            buffer.copy_(torch.rand_like(buffer) if buffer.is_floating_point() else buffer)
    file = saved(tmp_path, {n: x for n, x in model.state_dict().items() if not n.startswith("backbone.bottom_up")})
    if filled:
        load_weights(model, file, "MODEL.WEIGHTS", False)
        return
    with pytest.raises(UserError, match=r"does not fill (\d+) of \1 frozen tensors of the backbone"):
        load_weights(model, file, "MODEL.WEIGHTS", False)


def test_freeze_at_that_the_backbone_does_not_obey():
    with pytest.raises(UserError) as error:
        build_trainee(config(STUDENT, "MODEL.BACKBONE.FREEZE_AT", "3"))
    assert str(error.value) == (
        "MODEL.BACKBONE.FREEZE_AT is 3, but build_timm_fpn_backbone freezes nothing: set it to 0, or take a backbone "
        "of Detectron2"
    )
    build_trainee(config(STUDENT, *RESNET, "MODEL.BACKBONE.FREEZE_AT", "3", "MODEL.WEIGHTS", "w.pth"))
