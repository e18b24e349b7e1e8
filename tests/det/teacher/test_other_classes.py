"""Detection teachers of other classes, at another scale, or from a function of one's own."""

import pytest
import torch
from detectron2.structures import Boxes, Instances

from densedist.common.errors import UserError
from densedist.det.rcnn import DistillRCNN
from densedist.det.retinanet import DistillRetinaNet
from densedist.det.taps.anchors import live_class_maps
from densedist.det.taps.rois import live_class_logits
from helpers.calling import densedist
from helpers.tiny import DIGITS, SMALL, STUDENT, batch, build_student, config, save_teacher

CLASSES = "DISTILL.TEACHER.CLASSES"
# Of the teacher; the student's are 0 to 9.
NAMES = ["sky", *(str(number) for number in range(10)), "more of 3"]
DENSE = DIGITS / "retinanet_r10_quarter.yaml"


@pytest.fixture(scope="module")
def rcnn(tmp_path_factory):
    keys = ["MODEL.ROI_HEADS.NUM_CLASSES", "12", "DATASETS.TRAIN", "[]", "DATASETS.CLASSES", str(NAMES)]
    return save_teacher(tmp_path_factory.mktemp("rcnn"), *keys)


def test_what_the_student_does_not_know_is_background(rcnn):
    inputs = batch()
    images, boxes = [x["image"] for x in inputs], [x["instances"].gt_boxes for x in inputs]
    teacher = DistillRCNN.load_teacher(config(STUDENT, *rcnn, f"{CLASSES}.3", "['3', 'more of 3']"))
    (mapped,) = live_class_logits(teacher, images, [boxes])
    teacher.classes = None
    theirs = live_class_logits(teacher, images, [boxes])[0].double().softmax(1)
    wanted = theirs[:, [*range(1, 11), 12]]
    wanted[:, 3] += theirs[:, 11]
    wanted[:, 10] += theirs[:, 0]
    torch.testing.assert_close(mapped.double().softmax(1), wanted, rtol=1e-4, atol=1e-6)


def test_sigmoids_take_the_highest_of_their_group(tmp_path):
    keys = ["MODEL.RETINANET.NUM_CLASSES", "12", "DATASETS.TRAIN", "[]", "DATASETS.CLASSES", str(NAMES)]
    keys = save_teacher(tmp_path, *keys, file=DIGITS / "retinanet_r10t.yaml")
    images = [x["image"] for x in batch()]
    teacher = DistillRetinaNet.load_teacher(config(DENSE, *keys, f"{CLASSES}.3", "['3', 'more of 3']"))
    mapped = live_class_maps(teacher, images)
    teacher.classes = None
    plain = live_class_maps(teacher, images)
    for ours, theirs in zip(mapped, plain, strict=True):
        of_anchor = theirs.unflatten(1, (-1, 12))
        wanted = of_anchor[:, :, 1:11].clone()
        wanted[:, :, 3] = torch.maximum(wanted[:, :, 3], of_anchor[:, :, 11])
        assert torch.equal(ours, wanted.flatten(1, 2))


def test_a_class_that_the_teacher_does_not_know_is_compared_by_nobody(tmp_path):
    keys = ["MODEL.ROI_HEADS.NUM_CLASSES", "9", "DATASETS.TRAIN", "[]", "DATASETS.CLASSES", str(NAMES[2:11])]
    keys = save_teacher(tmp_path, *keys)
    with pytest.raises(UserError, match="CLASSES: 0 has no counterpart among the teacher's classes"):
        build_student(config(STUDENT, *keys, f"{CLASSES}.1", "1"))
    model = build_student(config(STUDENT, *keys, "DISTILL.TEACHER.MISSING_CLASSES", "leave_out"))
    (term,) = model.distillation.distiller.terms
    assert term.columns == tuple(range(1, 11))


def test_predictions_are_told_in_the_students_classes(rcnn):
    teacher = DistillRCNN.load_teacher(config(STUDENT, *rcnn, f"{CLASSES}.3", "['3', 'more of 3']"))
    found = Instances((10, 10), pred_classes=torch.tensor([0, 4, 11, 1]), scores=torch.arange(4.0))
    told = teacher.predictions_in_student_classes(found)
    assert told.pred_classes.tolist() == [3, 3, 0]
    assert told.scores.tolist() == [1, 2, 3]


def test_other_classes_without_a_map(rcnn):
    with pytest.raises(UserError, match=r"the student has 10 classes, the teacher 12; .* or DISTILL.TEACHER.CLASSES"):
        build_student(config(STUDENT, *rcnn))


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_teacher_sees_another_scale_and_the_same_boxes(tmp_path, scale):
    keys = save_teacher(tmp_path)
    images, boxes = [x["image"] for x in batch()], [x["instances"].gt_boxes for x in batch()]
    teacher = DistillRCNN.load_teacher(config(STUDENT, *keys, "DISTILL.TEACHER.INPUT_SCALE", scale))
    (seen,) = live_class_logits(teacher, images, [boxes])
    resized = teacher.prepare_images(images)
    assert [list(x.shape[1:]) for x in resized] == [[int(scale * side) for side in x.shape[1:]] for x in images]
    teacher.scale = 1.0
    larger = [Boxes(of_image.tensor * scale) for of_image in boxes]
    own = [x.flip(0) if teacher.flip_channels else x for x in resized]
    torch.testing.assert_close(seen, live_class_logits(teacher, own, [larger])[0])
    with pytest.raises(UserError, match=r"DISTILL.MIMIC needs features, which this pair does not have"):
        build_student(config(STUDENT, *keys, "DISTILL.TEACHER.INPUT_SCALE", scale, "DISTILL.MIMIC.WEIGHT", "1.0"))


def test_scales_that_cannot_be(tmp_path):
    keys = [*save_teacher(tmp_path), "DISTILL.TEACHER.INPUT_SCALE", "2.0"]
    with pytest.raises(UserError, match=r"set DISTILL.TEACHER.INPUT_SCALE to 1"):
        build_student(config(STUDENT, *keys, "DISTILL.TEACHER.CACHE", tmp_path / "cache"))
    with pytest.raises(UserError, match="INPUT_SCALE the teacher's anchors would move: set it to 1"):
        build_student(config(DENSE, *save_teacher(tmp_path / "dense", file=DIGITS / "retinanet_r10t.yaml"), *keys[4:]))


def test_student_learns_from_a_function_of_ones_own(tmp_path):
    """No config: what its model is, the function knows; FORMAT says what it wants."""
    keys = save_teacher(tmp_path / "theirs")
    file = tmp_path / "their_detector.py"
    file.write_text(f"""
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model

from densedist.common.config import load
from densedist.det.config import GRAMMAR


def build():
    model = build_model(load(GRAMMAR, {keys[1]!r}, [])).eval()
    DetectionCheckpointer(model).load({keys[3]!r})
    return model


def number():
    return 3
""")
    words = ["IMPORTS", f"['{file}']", "DISTILL.TEACHER.FORMAT", "BGR", "DISTILL.TEACHER.WEIGHTS"]
    small = [*SMALL, "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "('digits_test',)", "OUTPUT_DIR", tmp_path / "out"]
    densedist("train", "det", "--config-file", STUDENT, *small, *words, "their_detector:build")
    assert "loss_dist" in (tmp_path / "out" / "metrics.json").read_text()
    for name, message in (
        ("number", "int is not a detector with a backbone"),
        ("gone", "their_detector has no function gone"),
    ):
        with pytest.raises(UserError, match=message):
            build_student(config(STUDENT, *words, f"their_detector:{name}"))
