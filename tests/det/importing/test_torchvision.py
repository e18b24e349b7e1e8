"""Detectors of torchvision as Detectron2's: the same numbers, and other numbers where a choice is wrong."""

import hashlib
import re
from functools import partial

import pytest
import torch
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torch import nn
from torchvision.models import detection, resnet
from torchvision.models.detection import faster_rcnn, mask_rcnn, retinanet, rpn
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from densedist.common.errors import UserError
from densedist.det.importing import torchvision as importer
from densedist.det.importing.shapes import coco_names
from helpers.imported import BOXES, SIZE, as_if_trained, dense, differences, exact, image, imported, regions
from helpers.tiny import DIGITS, STUDENT, teach

pytestmark = pytest.mark.usefixtures("quick_weights")

CHANNELS = 64  # of the pyramid
CHANNELS_OUT = [256, 512, 1024, 2048]
IDS = [category["id"] for category in COCO_CATEGORIES if category["isthing"]]


def backbone(norm, levels, top, pyramid_norm=None):
    """A ResNet-50, thin between its 1x1 convolutions."""
    body = resnet.ResNet(resnet.Bottleneck, [3, 4, 6, 3], width_per_group=8, norm_layer=norm)
    del body.fc
    layers = {f"layer{level}": str(n) for n, level in enumerate(levels)}
    channels = [CHANNELS_OUT[level - 1] for level in levels]
    return BackboneWithFPN(body, layers, channels, CHANNELS, top, pyramid_norm)


def rcnn(outputs, masks=False, version=1, norm=FrozenBatchNorm2d):
    """The real classes, small where their arguments allow it."""
    if version == 2:
        batch = nn.BatchNorm2d
        body = backbone(batch, [1, 2, 3, 4], LastLevelMaxPool(), batch)
        box = faster_rcnn.FastRCNNConvFCHead((CHANNELS, 7, 7), [16] * 4, [24], norm_layer=batch)
        more = {"rpn_head": rpn.RPNHead(CHANNELS, 3, conv_depth=2)}
        mask = mask_rcnn.MaskRCNNHeads(CHANNELS, [16] * 4, 1, norm_layer=batch)
    else:
        body, more = backbone(norm, [1, 2, 3, 4], LastLevelMaxPool()), {}
        box, mask = faster_rcnn.TwoMLPHead(CHANNELS * 49, 24), mask_rcnn.MaskRCNNHeads(CHANNELS, [16] * 4, 1)
    more |= {"box_head": box, "box_predictor": faster_rcnn.FastRCNNPredictor(24, outputs)}
    if masks:
        more |= {"mask_head": mask, "mask_predictor": mask_rcnn.MaskRCNNPredictor(16, 16, outputs)}
    model = (mask_rcnn.MaskRCNN if masks else faster_rcnn.FasterRCNN)(body, **more)
    return as_published(model, version, norm)


def dense_detector(outputs, version=1, norm=FrozenBatchNorm2d):
    top = LastLevelP6P7(2048 if version == 2 else CHANNELS, CHANNELS)
    body = backbone(nn.BatchNorm2d if version == 2 else norm, [2, 3, 4], top)
    group = partial(nn.GroupNorm, 32) if version == 2 else None
    head = retinanet.RetinaNetHead(CHANNELS, 9, outputs, norm_layer=group)
    return as_published(retinanet.RetinaNet(body, outputs, head=head), version, norm)


def as_published(model, version, norm):
    if version == 1 and norm is FrozenBatchNorm2d:
        overwrite_eps(model, 0.0)
    return as_if_trained(model)


def theirs_maps(model, rgb):
    return model.backbone(model.transform.normalize(rgb.double() / 255)[None])


@torch.no_grad()
def theirs_regions(model, rgb, classes):
    """In Detectron2's order. Args: classes: the outputs that are kept."""
    maps, boxes, heads = theirs_maps(model, rgb), BOXES.double(), model.roi_heads
    logits, deltas = model.rpn.head(list(maps.values()))
    scores, moves = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, [boxes], [SIZE])))
    kept = moves.unflatten(1, (-1, 4))[:, classes].flatten(1)
    result = {"rpn_logits": logits, "rpn_deltas": deltas, "logits": [scores[:, [*classes, 0]]], "deltas": [kept]}
    result["boxes"] = [heads.box_coder.decode(moves, [boxes])[:, classes].flatten(1)]
    if heads.has_mask():
        pooled = heads.mask_roi_pool(maps, [boxes], [SIZE])
        result["masks"] = [heads.mask_predictor(heads.mask_head(pooled))[:, classes]]
    return result


@torch.no_grad()
def theirs_dense(model, rgb, classes):
    maps = list(theirs_maps(model, rgb).values())
    cls, reg = model.head.classification_head, model.head.regression_head
    logits = [cls.cls_logits(cls.conv(x)).unflatten(1, (9, -1))[:, :, classes].flatten(1, 2) for x in maps]
    return {"logits": logits, "deltas": [reg.bbox_reg(reg.conv(x)) for x in maps]}


def compare(folder, model, *overrides, state=None, classes=range(1, 5), eps="0"):
    """How far the imported detector is from its source."""
    ours, cfg = imported(folder, state or model.state_dict(), *overrides, options={"eps": eps})
    classes = list(classes)
    if isinstance(model, retinanet.RetinaNet):
        found = dense(ours, cfg, image(), model.anchor_generator.sizes)
        return differences(found, theirs_dense(model, image(), classes))
    return differences(regions(ours, cfg, image()), theirs_regions(model, image(), classes))


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, nn.BatchNorm2d])
def test_version_1_computes_the_same(tmp_path, norm):
    assert exact(compare(tmp_path, rcnn(5, masks=True, norm=norm)))
    assert exact(compare(tmp_path, dense_detector(5, norm=norm)))


def test_version_2_computes_the_same(tmp_path):
    assert exact(compare(tmp_path, rcnn(5, masks=True, version=2)))
    assert exact(compare(tmp_path, dense_detector(5, version=2)))


def test_80_of_91_outputs(tmp_path):
    assert [n for n in range(1, 91) if n not in IDS] == list(importer.NO_CATEGORY)
    assert exact(compare(tmp_path, rcnn(91, masks=True), classes=IDS))
    assert exact(compare(tmp_path, dense_detector(91), classes=IDS))
    _, cfg = imported(tmp_path, dense_detector(91).state_dict(), options={"eps": "0"})
    assert cfg.DATASETS.CLASSES == coco_names()
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 80


def test_an_epsilon_that_is_not_0(tmp_path):
    model = rcnn(5)
    overwrite_eps(model, 1e-5)
    assert exact(compare(tmp_path, model, eps="1e-5"))
    assert max(compare(tmp_path, model).values()) > 1e-3
    with pytest.raises(UserError, match=r"\d.pth as torchvision: the epsilon of .* give --option eps=0 if it is"):
        compare(tmp_path, model, eps="published")
    stripped = {n: x for n, x in rcnn(5, version=2).state_dict().items() if not n.endswith("num_batches_tracked")}
    assert exact(compare(tmp_path, rcnn(5, version=2), state=stripped, eps="published"))  # never frozen


def test_of_91_outputs_the_epsilon_has_to_be_said_but_for_a_published_file(tmp_path, monkeypatch):
    """What somebody trained on COCO from an ImageNet backbone looks the same."""
    with pytest.raises(
        UserError, match="as torchvision: the epsilon of its frozen batch norms is not in the file: give"
    ):
        compare(tmp_path / "one", rcnn(91), classes=IDS, eps="published")
    digits = hashlib.sha256((tmp_path / "one" / "0.pth").read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(importer, "PUBLISHED", [f"https://host/models/name_of_it-{digits}.pth"])
    assert exact(compare(tmp_path / "two", rcnn(91), classes=IDS, eps="published"))


def test_an_epsilon_that_is_said_holds_with_any_heads(tmp_path):
    """More convolutions of an RPN, or norms of a RetinaNet's head, do not mean that the backbone was never frozen."""
    body = backbone(FrozenBatchNorm2d, [1, 2, 3, 4], LastLevelMaxPool())
    more = {"rpn_head": rpn.RPNHead(CHANNELS, 3, conv_depth=2), "box_head": faster_rcnn.TwoMLPHead(CHANNELS * 49, 24)}
    model = faster_rcnn.FasterRCNN(body, box_predictor=faster_rcnn.FastRCNNPredictor(24, 5), **more)
    assert exact(compare(tmp_path, as_published(model, 1, FrozenBatchNorm2d)))
    with pytest.raises(UserError, match="the epsilon of its frozen batch norms is not in the file"):
        compare(tmp_path, model, eps="published")


def test_half_precision_is_not_rounded_twice(tmp_path):
    model = rcnn(5).bfloat16().double()
    halved = {name: value.bfloat16() for name, value in model.state_dict().items()}
    assert max(compare(tmp_path, model, state=halved).values()) < 1e-5


def test_the_folded_weights_are_as_good_in_float32(tmp_path):
    model = rcnn(5)
    float32 = {name: value.float() for name, value in model.state_dict().items()}
    found = compare(tmp_path, model, state=float32)
    assert max(found.values()) < 1e-5


@pytest.mark.parametrize(
    "words",
    [
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE ROIAlignV2",
        "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO 0",
        "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO 0",
        "MODEL.RESNETS.STRIDE_IN_1X1 True",
        "INPUT.FORMAT BGR",
    ],
)
def test_another_choice_is_seen(tmp_path, words):
    assert max(compare(tmp_path, rcnn(5, masks=True), *words.split()).values()) > 1e-3


def test_another_choice_is_seen_in_a_retinanet(tmp_path, monkeypatch):
    plain = "MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_plain_p7_backbone"
    assert max(compare(tmp_path, dense_detector(5, version=2), *plain).values()) > 1e-3  # no ReLU before P7
    with pytest.raises(UserError, match=r"do not fit the model: .* first backbone.top_block.p6"):  # P6 from C5
        compare(tmp_path, dense_detector(5), "MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone")
    monkeypatch.setattr(importer, "size_major", dict)
    assert max(compare(tmp_path, dense_detector(5)).values()) > 0.1


BUILDERS = {
    "fasterrcnn_resnet50_fpn": rcnn,
    "fasterrcnn_resnet50_fpn_v2": partial(rcnn, version=2),
    "maskrcnn_resnet50_fpn": partial(rcnn, masks=True),
    "maskrcnn_resnet50_fpn_v2": partial(rcnn, masks=True, version=2),
    "retinanet_resnet50_fpn": dense_detector,
    "retinanet_resnet50_fpn_v2": partial(dense_detector, version=2),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_the_small_ones_have_the_names_of_the_real_ones(name):
    with torch.device("meta"):
        real = getattr(detection, name)(weights=None, weights_backbone=None).state_dict()
    small = BUILDERS[name](91).state_dict()
    kept = {n for n in real if not n.endswith("num_batches_tracked")}  # not in version 1 with FrozenBN
    assert kept == {n for n in small if not n.endswith("num_batches_tracked")}


OLD = [  # of before torchvision 0.13
    (r"(backbone\.fpn\.(inner|layer)_blocks\.\d)\.0\.", r"\1."),
    (r"(rpn\.head\.conv)\.0\.0\.", r"\1."),
]


@pytest.mark.parametrize("build", [partial(rcnn, masks=True), dense_detector])
def test_older_names(tmp_path, build):
    model = build(5)
    old = {}
    for name, value in model.state_dict().items():
        for new, before in OLD:
            name = re.sub(new, before, name)
        name = re.sub(r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", name)
        old[re.sub(r"(_head\.conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", name)] = value
    model.load_state_dict(old)  # they are what torchvision itself still reads
    assert len(old.keys() - model.state_dict().keys()) > 10
    assert exact(compare(tmp_path, model, state=old))


def test_another_order_of_a_retinanets_anchors_is_refused(tmp_path):
    """9 sizes of one ratio are 9 anchors, too, but were put in the order of 3 of each."""
    keys = [
        "MODEL.ANCHOR_GENERATOR.SIZES",
        str([list(range(8, 17))] * 5),
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
        "[[1.0]]",
    ]
    words = "of 3 sizes and 3 ratios, .* want MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS of 3 each$"
    with pytest.raises(UserError, match=words):
        imported(tmp_path, dense_detector(5).state_dict(), *keys, options={"eps": "0"})


def test_a_backbone_with_group_norms_is_refused(tmp_path):
    with pytest.raises(UserError, match="norms of its backbone have no statistics, as group norms have none"):
        compare(tmp_path, rcnn(5, norm=partial(nn.GroupNorm, 8)), eps="1e-5")


def with_zero_variance(state):
    state["backbone.body.bn1.running_var"][3] = 0
    return state


def renamed(state, one, other):
    return {name.replace(one, other): value for name, value in state.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_zero_variance, "would have a variance of 0, so its epsilon was not 0: give --option eps=1e-5"),
        (partial(renamed, one="mask_predictor", other="keypoint_predictor"), "it is a Keypoint R-CNN"),
        (
            partial(renamed, one="layer", other="block"),
            "tensors have no place here, first backbone.body.block1.0.conv1",
        ),
    ],
)
def test_refusals(tmp_path, change, words):
    with pytest.raises(UserError) as error:
        imported(tmp_path, change(rcnn(5, masks=True).state_dict()), options={"eps": "0"})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_an_rcnn_teaches(tmp_path):
    imported(tmp_path, rcnn(11, masks=True, version=2).float().state_dict())
    teach(tmp_path / "student", tmp_path / "0_imported", STUDENT)
    assert "10 classes on both sides; their order is not checked" in (tmp_path / "student" / "log.txt").read_text()


def test_a_retinanet_teaches(tmp_path):
    imported(tmp_path, dense_detector(11).float().state_dict(), options={"eps": "0"})
    teach(tmp_path / "student", tmp_path / "0_imported", DIGITS / "retinanet_r10_quarter.yaml", dense=True)
