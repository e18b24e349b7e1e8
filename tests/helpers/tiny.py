"""Small detectors on the small digits data, from the shipped configs."""

import json
from pathlib import Path

import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from densedist.common.config import load, saved
from densedist.common.profile import as_if_trained
from densedist.det.config import GRAMMAR
from densedist.det.distilling import Distilling
from helpers.calling import densedist

CONFIGS = Path(__file__).parents[2] / "configs"
DIGITS = CONFIGS / "det" / "digits"
STUDENT = DIGITS / "faster_rcnn_r10_quarter.yaml"
TEACHER = DIGITS / "cascade_mask_rcnn_r10t.yaml"
RETINANET, RETINANET_TEACHER = DIGITS / "retinanet_r10_quarter.yaml", DIGITS / "retinanet_r10t.yaml"
SMALL = ["MODEL.FPN.OUT_CHANNELS", "8", "MODEL.ROI_BOX_HEAD.FC_DIM", "16"]
SMALL += ["REHEARSAL", "False", "MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"]
SMALL += ["TEST.EXAMPLES", "0"]
NARROW = ["MODEL.TIMM.ARGS.channels", "[24, 48, 96, 192]"]  # of the teachers' backbone: three eighths

BOX_ONLY = ("MODEL.MASK_ON", "False")
HEADS = {
    "faster": (),
    "cascade": ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"),
}
C4 = [
    *("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.ROI_HEADS.NAME", "Res5ROIHeads"),
    *("MODEL.RPN.IN_FEATURES", "['res4']", "MODEL.ROI_HEADS.IN_FEATURES", "['res4']"),
    *("MODEL.ANCHOR_GENERATOR.SIZES", "[[16, 32]]", "MODEL.RESNETS.NORM", "BN"),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", *BOX_ONLY),
]


def defaults():
    return GRAMMAR.config()


def config(file, *overrides):
    other = any(key in overrides for key in ("MODEL.TIMM.NAME", "MODEL.TIMM.ARGS", "MODEL.BACKBONE.NAME"))
    narrow = [] if other or file not in (TEACHER, RETINANET_TEACHER) else NARROW
    return load(GRAMMAR, str(file), [*SMALL, *narrow, *map(str, overrides)])


def build_student(cfg):
    """The model of a config, with its teacher if it has one."""
    model = build_model(cfg)
    if isinstance(model, Distilling):
        model.attach_teacher()
    return model


def save_teacher(folder, *overrides, file=TEACHER):
    """Config and weights of a small random teacher: the overrides that make a student learn from it."""
    cfg = config(file, *overrides)
    torch.manual_seed(1)
    model = as_if_trained(build_model(cfg))
    # Logits of a random detector hardly differ from 0; a teacher has opinions.
    for name, parameter in model.named_parameters():
        if name.endswith("cls_score.weight"):
            torch.nn.init.normal_(parameter, std=1.0)
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(saved(cfg))
    torch.save({"model": model.state_dict()}, folder / "weights.pth")
    return [
        "DISTILL.TEACHER.CONFIG_FILE",
        str(folder / "config.yaml"),
        "DISTILL.TEACHER.WEIGHTS",
        str(folder / "weights.pth"),
    ]


def save_retinanet(folder, *overrides):
    cfg = config(RETINANET_TEACHER, *overrides)
    torch.manual_seed(1)
    model = as_if_trained(build_model(cfg))
    torch.nn.init.normal_(model.head.cls_score.weight, std=0.3)
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(saved(cfg))
    torch.save({"model": model.state_dict()}, folder / "w.pth")
    file, weights = str(folder / "config.yaml"), str(folder / "w.pth")
    return ["DISTILL.TEACHER.CONFIG_FILE", file, "DISTILL.TEACHER.WEIGHTS", weights]


def teach(output, teacher, student, dense=False):
    """Two iterations and an evaluation of a student with the teacher of a folder.

    Args:
        dense: the student gets the maps and anchors of a RetinaNet of the usual kind, as its teacher has them.
    """
    keys = ["DISTILL.TEACHER.CONFIG_FILE", teacher / "config.yaml"]
    keys += ["DISTILL.TEACHER.WEIGHTS", teacher / "model_final.pth", "OUTPUT_DIR", output]
    keys += ["SOLVER.MAX_ITER", "2", "DATASETS.TEST", "('digits_test',)"]
    if dense:
        anchors = load(GRAMMAR, str(teacher / "config.yaml"), []).MODEL.ANCHOR_GENERATOR
        keys += ["MODEL.BACKBONE.NAME", "build_timm_retinanet_fpn_backbone"]
        keys += ["MODEL.FPN.IN_FEATURES", "['res3','res4','res5']"]
        keys += ["MODEL.RETINANET.IN_FEATURES", "['p3','p4','p5','p6','p7']"]
        keys += ["MODEL.ANCHOR_GENERATOR.SIZES", anchors.SIZES]
        keys += ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", anchors.ASPECT_RATIOS]
    densedist("train", "det", "--config-file", student, *SMALL, *keys)
    assert "loss_dist" in (output / "metrics.json").read_text()
    assert "AP" in json.loads((output / "results.json").read_text())["bbox"]


def batch(count=2, seed=0, size=96):
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randint(0, 256, (3, size, size + 16 * i), generator=generator) for i in range(count)]
    result = []
    for image in images:
        instances = Instances(tuple(image.shape[1:]))
        corner = torch.rand(3, 2, generator=generator) * 50
        instances.gt_boxes = Boxes(torch.cat([corner, corner + 20 + 10 * torch.rand(3, 2, generator=generator)], 1))
        instances.gt_classes = torch.randint(0, 10, (3,), generator=generator)
        result.append({"image": image.to(torch.uint8), "instances": instances})
    return result


STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128}


def inside(inputs, maps, stride):
    """The places of maps (N, C, H, W) that have a pixel of the image: bool (N, H, W)."""
    places = torch.zeros(len(maps), *maps.shape[2:], dtype=torch.bool)
    for number, sample in enumerate(inputs):
        height, width = sample["image"].shape[1:]
        places[number, : -(-height // stride), : -(-width // stride)] = True
    return places
