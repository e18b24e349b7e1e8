"""Frozen parts of a student: filled by weights, or refused before training."""

import pytest
import timm
from detectron2.checkpoint.catalog import ModelCatalog

from densedist.common.benchmark.measure import as_if_trained
from densedist.common.config import load
from densedist.common.errors import UserError
from densedist.det.config import GRAMMAR
from densedist.det.models import build_trainee
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
        "MODEL: the backbone build_timm_fpn_backbone gives no map p7, which IN_FEATURES of MODEL.RPN, MODEL.ROI_HEADS "
        "or MODEL.RETINANET asks for: correct it, or take another backbone (RetinaNet's p6 and p7 on timm: "
        "build_timm_retinanet_fpn_backbone)"
    )
