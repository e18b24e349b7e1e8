"""Detectors of mmdetection as Detectron2's: the same numbers, and other numbers where a choice is wrong."""

import json

import pytest
import torch

from densedist.common.data import digits
from densedist.common.errors import UserError
from densedist.common.import_checkpoint import import_checkpoint
from densedist.common.importing.importer import Foreign
from densedist.common.run_files import locate
from densedist.det.importing import mmdetection
from densedist.det.importing.mmdetection_config import rcnn_numbers, read_model
from densedist.det.importing.shapes import coco_names
from densedist.det.models import build, load_trained, read_config
from densedist.det.task import TASK
from helpers.calling import complaint, densedist
from helpers.imported import BOXES, as_if_trained, dense, differences, exact, image, imported, regions
from helpers.mmdetection import Detector
from helpers.tiny import DIGITS, STUDENT, teach

pytestmark = pytest.mark.usefixtures("quick_weights")

RETINANET_SIZES = [[s * 2 ** (n / 3) for n in range(3)] for s in (32, 64, 128, 256, 512)]
KINDS = {
    "faster": {"kind": "faster"},
    "mask caffe": {"kind": "mask", "style": "caffe"},
    "cascade bgr": {"kind": "cascade", "style": "pytorch-bgr", "groups": 2},
    "cascade_mask x": {"kind": "cascade_mask", "groups": 4},
    "faster r18": {"kind": "faster", "blocks": (2, 2, 2, 2), "base": 64, "width": 0},
}


def trained(**kind):
    return as_if_trained(Detector(**kind))


@torch.no_grad()
def compare(folder, theirs, *overrides, **more):
    """How far the imported detector is from its source."""
    options = {"options": {"style": theirs.style}, **more}
    ours, cfg = imported(folder, theirs.state_dict(), *overrides, **options)
    if theirs.kind == "retinanet":
        return differences(dense(ours, cfg, image(), RETINANET_SIZES), theirs.dense(image()))
    return differences(regions(ours, cfg, image()), theirs.regions(image(), BOXES.double()))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_rcnn_computes_the_same(tmp_path, kind):
    assert exact(compare(tmp_path, trained(**kind)))


@pytest.mark.parametrize("kind", [{"style": "pytorch"}, {"style": "caffe", "groups": 4}], ids=["r50", "x caffe"])
def test_a_retinanet_computes_the_same(tmp_path, kind):
    assert exact(compare(tmp_path, trained(kind="retinanet", **kind)))


@pytest.mark.parametrize("kind", ["cascade_mask", "retinanet"])
def test_in_float32_as_every_command_loads_it(tmp_path, kind):
    theirs = trained(kind=kind, groups=4).float()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")  # without a nest
    import_checkpoint(TASK, str(tmp_path / "theirs.pth"), tmp_path / "ours")
    ours = load_trained(locate(str(tmp_path / "ours")))
    with torch.no_grad():
        if kind == "retinanet":
            found = differences(dense(ours.model, ours.cfg, image(), RETINANET_SIZES), theirs.dense(image()))
        else:
            found = differences(regions(ours.model, ours.cfg, image()), theirs.regions(image(), BOXES))
    assert max(found.values()) < 1e-4


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cascade", "MODEL.RESNETS.STRIDE_IN_1X1 True"),
        ("cascade", "MODEL.ROI_BOX_HEAD.POOLER_TYPE ROIAlign"),
        ("cascade", "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO 2"),
        ("cascade", "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS [[10,10,5,5],[20,20,10,10],[30,30,15,15]]"),
        ("mask", "MODEL.ROI_MASK_HEAD.POOLER_TYPE ROIAlign"),
        ("mask", "INPUT.FORMAT BGR"),
        ("mask", "MODEL.PIXEL_STD [1,1,1]"),
        ("retinanet", "MODEL.BACKBONE.NAME build_retinanet_resnet_fpn_backbone"),  # with a ReLU before P7
        ("retinanet", "MODEL.RESNETS.STRIDE_IN_1X1 True"),
    ],
)
def test_another_choice_is_seen(tmp_path, kind, words):
    assert max(compare(tmp_path, trained(kind=kind), *words.split()).values()) > 1e-3


@pytest.mark.parametrize("style", ["caffe", "pytorch-bgr"])
def test_another_style_is_seen(tmp_path, style):
    assert max(compare(tmp_path, trained(kind="faster"), options={"style": style}).values()) > 0.01


def test_anchors_in_another_order_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(mmdetection, "size_major", dict)
    assert max(compare(tmp_path, trained(kind="retinanet")).values()) > 0.1


FULL = {"base": 64, "channels": 256, "fc": 1024, "classes": 80}


@pytest.mark.parametrize(
    ("kind", "blocks", "groups", "width", "resnets"),
    [
        ("cascade_mask", (3, 4, 23, 3), 64, 256, (101, 64, 4)),
        ("retinanet", (3, 4, 23, 3), 64, 256, (101, 64, 4)),
        ("faster", (3, 4, 23, 3), 32, 128, (101, 32, 4)),
        ("mask", (3, 4, 23, 3), 32, 256, (101, 32, 8)),
        ("cascade", (3, 4, 23, 3), 1, 64, (101, 1, 64)),
        ("retinanet", (3, 4, 6, 3), 1, 64, (50, 1, 64)),
    ],
)
def test_published_sizes(tmp_path, kind, blocks, groups, width, resnets):
    """Without numbers: the config builds a model of these very tensors."""
    with torch.device("meta"):
        theirs = Detector(kind, blocks=blocks, groups=groups, width=width, **FULL)
        converted = mmdetection.convert(
            Foreign("theirs.pth", theirs.state_dict()), {"style": "pytorch", "version": "file"}
        )
        (tmp_path / "config.yaml").write_text(json.dumps(converted.config))
        cfg = read_config(str(tmp_path / "config.yaml"), ["MODEL.DEVICE", "meta"])
        ours = build(cfg).state_dict()
    node = cfg.MODEL.RESNETS
    assert (node.DEPTH, node.NUM_GROUPS, node.WIDTH_PER_GROUP) == resnets
    assert {name: x.shape for name, x in ours.items()} == {n: x.shape for n, x in converted.tensors.items()}
    assert cfg.DATASETS.CLASSES == coco_names()


def test_a_version_that_the_user_knows_better(tmp_path):
    state, meta = trained(kind="retinanet").state_dict(), {"mmdet_version": "1.0.0+abcdefg"}
    _, cfg = imported(tmp_path, state, meta=meta, options={"version": "2"})
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 3


def test_what_is_left_out_is_written_down(tmp_path):
    theirs = trained(kind="cascade_mask", classes=5)
    torch.save({"state_dict": theirs.state_dict(), "meta": {"CLASSES": tuple("abcde")}}, tmp_path / "theirs.pth")
    record = import_checkpoint(TASK, str(tmp_path / "theirs.pth"), tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "imported.json").read_text()) == record
    reasons = {name: why for name, why in record["unused"].items() if not name.endswith("num_batches_tracked")}
    assert {name.split(".")[2] for name in reasons} == {"0", "1"}
    assert set(reasons.values()) == {"Detectron2's cascade has the mask head of the last stage only"}
    assert load_trained(locate(str(tmp_path / "ours"))).classes == tuple("abcde")


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"CLASSES": ("a", "b", "c")}, ["a", "b", "c"]),
        ({"dataset_meta": {"classes": ("a", "b", "c")}}, ["a", "b", "c"]),
        ({"dataset_meta": {"CLASSES": ["a"]}}, []),
        ({}, []),
    ],
)
def test_names_of_classes(tmp_path, meta, names):
    _, cfg = imported(tmp_path, trained(kind="faster").state_dict(), meta=meta)
    assert cfg.DATASETS.CLASSES == names


TEXT = "model = dict(backbone=dict(style='{}'))\nimg_norm_cfg = dict(\n    mean={}, std={}, to_rgb={})\n"
CAFFE = TEXT.format("caffe", [103.53, 116.28, 123.675], [1.0, 1.0, 1.0], False)
BGR = TEXT.format("pytorch", [103.53, 116.28, 123.675], [57.375, 57.12, 58.395], False)
OTHER = TEXT.format("caffe", [102.9801, 115.9465, 122.7717], [1.0, 1.0, 1.0], False)


RCNN = """model = dict(
    backbone=dict(type='ResNet', strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)),
    rpn_head=dict(
        anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[0.25, 1.0, 4.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], target_stds=[1.0, 1.0, 0.5, 0.5])),
    roi_head=dict(
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor', featmap_strides=[4, 8, 16, 32],
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2, aligned=False)),
        mask_roi_extractor=dict(roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=1)),
        bbox_head=dict(bbox_coder=dict(target_stds=[0.1, 0.1, 0.25, 0.25]), num_classes=unheard_of(3))),
    test_cfg=dict(
        rpn=dict(nms_pre=500, max_per_img=300, nms=dict(type='nms', iou_threshold=0.8), min_bbox_size=0),
        rcnn=dict(score_thr=0.1, nms=dict(type='nms', iou_threshold=0.6), max_per_img=50)))
"""
RETINANET = """model = dict(bbox_head=dict(
    anchor_generator=dict(octave_base_scale=2, scales_per_octave=3, strides=[8, 16, 32, 64, 128])),
    test_cfg=dict(nms_pre=500, score_thr=0.1, nms=dict(iou_threshold=0.6), max_per_img=50))
"""


def test_numbers_of_an_rcnns_own_config(tmp_path):
    _, cfg = imported(tmp_path, trained(kind="mask").state_dict(), meta={"cfg": RCNN})
    model = cfg.MODEL
    assert model.ANCHOR_GENERATOR.SIZES == [[16], [32], [64], [128], [256]]
    assert model.ANCHOR_GENERATOR.ASPECT_RATIOS == [[0.25, 1.0, 4.0]]
    assert tuple(model.RPN.BBOX_REG_WEIGHTS) == (1.0, 1.0, 2.0, 2.0)
    box, mask = model.ROI_BOX_HEAD, model.ROI_MASK_HEAD
    assert (tuple(box.BBOX_REG_WEIGHTS), box.POOLER_TYPE) == ((10.0, 10.0, 4.0, 4.0), "ROIAlign")
    assert (box.POOLER_SAMPLING_RATIO, mask.POOLER_SAMPLING_RATIO, mask.POOLER_TYPE) == (2, 1, "ROIAlignV2")
    assert (model.RPN.PRE_NMS_TOPK_TEST, model.RPN.POST_NMS_TOPK_TEST, model.RPN.NMS_THRESH) == (500, 300, 0.8)
    assert (model.ROI_HEADS.SCORE_THRESH_TEST, model.ROI_HEADS.NMS_THRESH_TEST) == (0.1, 0.6)
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 50


def test_numbers_of_a_retinanets_own_config(tmp_path):
    _, cfg = imported(tmp_path, trained(kind="retinanet").state_dict(), meta={"config": RETINANET})
    sizes = [[round(side * 2 ** (n / 3), 3) for n in range(3)] for side in (16, 32, 64, 128, 256)]
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == sizes
    node = cfg.MODEL.RETINANET
    assert (node.TOPK_CANDIDATES_TEST, node.SCORE_THRESH_TEST, node.NMS_THRESH_TEST) == (500, 0.1, 0.6)


def test_numbers_of_a_cascades_own_config():
    stages = ", ".join(f"dict(bbox_coder=dict(target_stds=[{x}, {x}, {x}, {x}]))" for x in (0.5, 0.25, 0.2))
    model = read_model({"cfg": f"import os\nmodel = dict(roi_head=dict(bbox_head=[{stages}]))\nos.x = 3\n"})
    assert rcnn_numbers(model, False).cascade_weights == [[2.0] * 4, [4.0] * 4, [5.0] * 4]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("strides=[4, 8", "strides=[2, 8", "rpn_head.anchor_generator.strides=[2, 8, 16, 32, 64], which is"),
        ("[.0, .0, .0, .0]", "[.1, .0, .0, .0]", "rpn_head.bbox_coder.target_means=[0.1, 0.0, 0.0, 0.0], which"),
        ("scales=[4]", "scales=[4], center_offset=0.5", "rpn_head.anchor_generator.center_offset=0.5, which"),
        ("scales=[4]", "scales=[0]", "something of rpn_head.anchor_generator.scales that is no number above 0"),
        ("scales=[4]", "scales=__import__('os')", "of rpn_head.anchor_generator.scales that is no number above"),
        ("[0.25, 1.0, 4.0]", "[0.5, 2.0]", "its RPN has 3 anchors at each place: want 2, of one"),
        (
            "'SingleRoIExtractor'",
            "'GenericRoIExtractor'",
            "bbox_roi_extractor.type='GenericRoIExtractor', which",
        ),
        ("dilations=(1, 1, 1, 1)", "dilations=(1, 1, 1, 2)", "backbone.dilations=[1, 1, 1, 2], which is not"),
        ("type='RoIAlign', output_size=7", "type='RoIPool', output_size=7", "type='RoIPool'"),
    ],
)
def test_numbers_that_detectron2_cannot_have(tmp_path, before, after, words):
    assert before in RCNN
    with pytest.raises(UserError) as error:
        imported(tmp_path, Detector("faster").state_dict(), meta={"cfg": RCNN.replace(before, after)})
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("change", "meta", "options", "words"),
    [
        ({}, {"config": CAFFE}, {}, "its config says style='caffe': give --option style=caffe, not pytorch"),
        ({}, {"cfg": BGR}, {}, "its config says to_rgb=False: give --option style=pytorch-bgr, not pytorch"),
        ({}, {"config": OTHER}, {"style": "caffe"}, "122.7717], which fits no style that is known (py"),
        ({}, {"mmdet_version": "1.2.0"}, {}, "of version 2 or 3; if it is one, but of before the release, give"),
        ({"bbox_head.fc_cls.weight": 4}, {}, {"version": "2"}, "mmdetection 1.x wrote it, with the background first"),
        ({"backbone.layer2.0.conv2.conv_offset.weight": 4}, {}, {}, "it has deformable convolutions (backbone.layer2"),
        ({"roi_head.semantic_head.convs.0.conv.weight": 4}, {}, {}, "it is a Hybrid Task Cascade (roi_head.semantic"),
        (
            {"neck.lateral_convs.0.gn.weight": 4},
            {},
            {},
            "its feature pyramid has norms (neck.lateral_convs.0.gn.weight)",
        ),
        ({"roi_head.bbox_head.unheard_of": 4}, {}, {}, "1 of its 349 tensors have no place here, first roi_head.bbox"),
        ({"rpn_head.rpn_cls.weight": 9}, {}, {}, "its RPN has 9 anchors at each place: want 3, of one size"),
        ({"backbone.layer4.3.conv2.weight": 9}, {}, {}, "its backbone has stages of 3, 4, 6, 4 blocks"),
        (
            {"roi_head.bbox_head.fc_cls.weight": None},
            {},
            {},
            "no tensor that would be roi_heads.box_predictor.cls",
        ),
        ({}, {}, {"style": "tensorflow"}, "--option: style is tensorflow: want pytorch or caffe or pytorch-bgr"),
        ({}, {}, {"eps": "0"}, "--option: mmdetection has no eps; want style, version"),
    ],
)
def test_refusals(tmp_path, change, meta, options, words):
    state = Detector("faster").state_dict()
    for name, rows in change.items():
        state[name] = torch.zeros(rows, 1, 1, 1) if rows else state.pop(name)
        if not rows:
            del state[name]
    with pytest.raises(UserError) as error:
        imported(tmp_path, state, meta=meta, options=options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["retinanet", "cascade"])
def test_what_detectron2_cannot_build(tmp_path, kind):
    theirs = Detector(kind)
    if kind == "cascade":
        theirs.roi_head.bbox_head = theirs.roi_head.bbox_head[:2]
        words = "its cascade has 2 stages"
    else:
        theirs.neck.fpn_convs[3].conv = torch.nn.Conv2d(16, 16, 3, 2, 1)
        words = "its P6 comes from a map of the pyramid"
    with pytest.raises(UserError, match=words):
        imported(tmp_path, theirs.state_dict())


def test_the_command_and_a_student(tmp_path, capsys):
    """The file of another architecture is refused, that of a detector teaches a student."""
    (tmp_path / "a").mkdir()
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "a" / "linear.pth")
    said = complaint(capsys, "import", "det", tmp_path / "a" / "linear.pth", "--output-dir", tmp_path / "none")
    assert "is of no known source (its first tensor is weight)" in said
    said = complaint(capsys, "import", "det", tmp_path / "a" / "linear.pth", "--source", "mmdetection")
    assert "have no place here, first weight" in said
    theirs = trained(kind="mask", style="caffe", classes=10).float()
    torch.save({"state_dict": theirs.state_dict(), "meta": {"CLASSES": digits.CLASSES}}, tmp_path / "theirs.pth")
    folder = tmp_path / "teacher"
    densedist("import", "det", tmp_path / "theirs.pth", "--option", "style=caffe", "--output-dir", folder)
    teach(tmp_path / "student", folder, STUDENT)
    assert "teacher have the same 10 classes in the same order" in (tmp_path / "student" / "log.txt").read_text()


def test_a_retinanet_teaches(tmp_path):
    imported(tmp_path, trained(kind="retinanet", classes=10).float().state_dict())
    teach(tmp_path / "student", tmp_path / "0_imported", DIGITS / "retinanet_r10_quarter.yaml", dense=True)
