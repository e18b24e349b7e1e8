"""A teacher of boxes alone: its scores and boxes on the student's RoIs and anchors, worked out one by one."""

import math

import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage
from torchvision.ops import generalized_box_iou_loss

from densedist.common.errors import UserError
from densedist.common.modules import record
from densedist.det.modeling import box_head
from densedist.det.taps.found import matched
from helpers import detectors
from helpers.tiny import RETINANET, STUDENT, batch, build_student, config, save_teacher

# Two boxes that overlap the objects of helpers.tiny.batch, and one that the first suppresses.
BOXES = [[40.0, 20.0, 66.0, 50.0], [8.0, 40.0, 36.0, 66.0], [41.0, 20.0, 67.0, 50.0]]
SCORES = [[0.7 if k == 3 else 0.02 * k for k in range(10)], [0.4 if k == 8 else 0.1 for k in range(10)], [0.3] * 10]
FILE = f"""
import torch

class Detector(torch.nn.Module):
    def forward(self, images):
        return torch.tensor({BOXES}), torch.tensor({SCORES})

def build():
    return Detector()
"""
CLASSES = ["DATASETS.CLASSES", str([str(n) for n in range(10)])]
LOSSES = ["DISTILL.DIST.WEIGHT", "1.0", "DISTILL.KD.WEIGHT", "1.0", "DISTILL.BOX.WEIGHT", "1.0"]
BACKGROUND = 10


@pytest.fixture(scope="module")
def function(tmp_path_factory):
    file = tmp_path_factory.mktemp("function") / "their_boxes.py"
    file.write_text(FILE)
    teacher = ["DISTILL.TEACHER.WEIGHTS", "their_boxes:build", "DISTILL.TEACHER.KIND", "function"]
    return ["IMPORTS", f"['{file}']", *CLASSES, *teacher]


def build(file, *words):
    torch.manual_seed(0)
    return build_student(config(file, *words)).train()


def iou(first, second):
    left, top = max(first[0], second[0]), max(first[1], second[1])
    right, bottom = min(first[2], second[2]), min(first[3], second[3])
    common = max(right - left, 0) * max(bottom - top, 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (first, second)]
    return common / (sum(areas) - common)


def test_places_are_on_the_box_that_they_overlap_most():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0]])
    places = Boxes(torch.tensor([[1.0, 0, 11, 10], [4.0, 0, 14, 10], [3.8, 0, 20, 10], [30.0, 0, 40, 10]]))
    matcher = Matcher([0.5, 0.7], [0, -1, 1])
    assert matched(places, boxes, matcher).tolist() == [0, 1, -1, 2]  # 9/11, 9/11, 10/16.2 of the second, none
    assert matched(places, boxes[:0], matcher).tolist() == [0] * 4  # which is the background: there is no box


def kl(teacher, student):
    return sum(t * (math.log(t) - math.log(s)) for t, s in zip(teacher, student, strict=True) if t > 0)


def test_rois_learn_what_is_found_where_they_are(function):
    """The softmax of the student has a class's odds against the background as the teacher's sigmoid has them."""
    model, inputs = build(STUDENT, *function, *LOSSES), batch()
    heads = model.roi_heads
    given = []
    heads.box_predictor.register_forward_hook(lambda _, __, output: given.append(output))
    with record(box_head.pooler(heads), lambda args, _: args[1]) as rois, EventStorage():
        losses = model(inputs)
    logits, deltas = (x.detach().double() for x in given[0])
    (boxes,) = rois
    places = torch.cat([x.tensor for x in boxes]).double()
    moved = heads.box_predictor.box2box_transform.apply_deltas(deltas, places).double()
    divergences, distances, weights = [], [], []
    for number, place in enumerate(places.tolist()):
        overlaps = [iou(place, box) for box in BOXES[:2]]
        best = max(range(2), key=overlaps.__getitem__)
        odds = [p / (1 - p) for p in SCORES[best]] if overlaps[best] >= 0.5 else [0.0] * 10
        row = [x / (1 + sum(odds)) for x in (*odds, 1.0)]
        divergences.append(kl(row, logits[number].softmax(0).tolist()))
        weights.append(1 - row[BACKGROUND])
        if overlaps[best] >= 0.5:
            likeliest = row.index(max(row[:10]))
            ours = moved[number] if moved.shape[1] == 4 else moved[number].view(-1, 4)[likeliest]
            target = torch.tensor(BOXES[best], dtype=torch.float64)
            distances.append(weights[-1] * generalized_box_iou_loss(ours, target))
    assert 0 < len(distances) < len(divergences)
    assert losses["loss_kd"].item() == pytest.approx(sum(divergences) / len(divergences), rel=1e-5)
    assert losses["loss_box"].item() == pytest.approx(float(sum(distances)) / max(sum(weights), 1), rel=1e-4)
    (losses["loss_dist"] + losses["loss_box"]).backward()
    assert heads.box_predictor.cls_score.weight.grad.abs().sum() > 0
    assert heads.box_predictor.bbox_pred.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("rows", ["anchors", "locations"])
def test_anchors_learn_what_is_found_where_they_are(function, rows):
    """Sigmoids as they are; anchors that the student's matcher leaves open count for nothing."""
    model, inputs = build(RETINANET, *function, *LOSSES, "DISTILL.DENSE_ROWS", rows), batch()
    with EventStorage(), record(model.head, lambda _, output: output) as outputs:
        losses = model(inputs)
    maps, deltas = ([x.detach().double() for x in side] for side in outputs[0])
    levels = model.anchor_generator(maps)
    every = torch.cat([level.tensor for level in levels]).double().tolist()
    overlaps = torch.tensor([[iou(place, box) for place in every] for box in BOXES[:2]], dtype=torch.float64)
    highest, best = overlaps.max(0)
    closest = (overlaps == overlaps.amax(1, keepdim=True)).any(0)
    on_a_box = (highest >= 0.5) | closest
    open_ = ~on_a_box & (highest >= 0.4)
    assert open_.any()
    assert on_a_box.any()
    scores = torch.tensor(SCORES, dtype=torch.float64)
    taught = torch.where(on_a_box[:, None], scores[best], 0.0).split([len(level) for level in levels])
    counts = (~open_).split([len(level) for level in levels])
    wanted = 0.0
    for logits, theirs, count in zip(maps, taught, counts, strict=True):
        ours = logits.permute(0, 2, 3, 1).reshape(2, -1, 10).sigmoid()
        each = torch.special.xlogy(theirs, theirs) - theirs * ours.log()
        each = each + torch.special.xlogy(1 - theirs, 1 - theirs) - (1 - theirs) * (1 - ours).log()
        if rows == "anchors":
            wanted += float(each.sum(2)[:, count].mean())
        else:  # a location counts if one of its anchors does
            anchors = model.anchor_generator.num_anchors[0]
            of_places = each.sum(2).view(2, -1, anchors).sum(2)
            wanted += float(of_places[:, count.view(-1, anchors).any(1)].mean())
    assert losses["loss_kd"].item() == pytest.approx(wanted, rel=1e-5)
    total, weight = 0.0, 0.0
    references = torch.tensor(every, dtype=torch.float64)
    for image in range(2):
        ours = torch.cat([x.permute(0, 2, 3, 1).reshape(2, -1, 4)[image] for x in deltas])
        moved = model.box2box_transform.apply_deltas(ours, references)[on_a_box].double()
        sure = scores[best][on_a_box].amax(1)
        target = torch.tensor(BOXES, dtype=torch.float64)[best][on_a_box]
        total += float((sure * generalized_box_iou_loss(moved, target)).sum())
        weight += float(sure.sum())
    assert losses["loss_box"].item() == pytest.approx(total / max(weight, 1), rel=1e-4)
    (losses["loss_dist"] + losses["loss_box"]).backward()
    assert model.head.cls_score.weight.grad.abs().sum() > 0
    assert model.head.bbox_pred.weight.grad.abs().sum() > 0


MAP = ["DISTILL.TEACHER.CLASSES.0", "['car', 'bus', 'truck']", "DISTILL.TEACHER.CLASSES.4", "person"]
MAP += ["DISTILL.TEACHER.MISSING_CLASSES", "leave_out", *CLASSES]


@pytest.mark.parametrize(("file", "kind"), [(STUDENT, "rt-detr"), (RETINANET, "detr"), (STUDENT, "owlv2")])
def test_models_of_transformers_teach_both_kinds_of_students(tmp_path, file, kind):
    """Two steps; images without labels are distilled, too."""
    detectors.write(kind, tmp_path)
    model = build(file, *MAP, *LOSSES, "DISTILL.TEACHER.WEIGHTS", tmp_path)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    labeled, bare = batch()
    for _ in range(2):
        with EventStorage():
            losses = model([labeled, {"image": bare["image"]}])
        names = {f"loss_{name}{end}" for name in ("dist", "kd", "box") for end in ("", "_unlabeled")}
        assert all(math.isfinite(losses[name]) for name in names)
        assert losses["loss_kd"] > 0
        optimizer.zero_grad()
        sum(losses[name] for name in names).backward()
        optimizer.step()
    assert not any("teacher" in name for name in model.state_dict())


def test_scores_become_those_of_the_students_classes(tmp_path):
    """Of float64 by hand: a softmax keeps its background, to which go classes without a counterpart and without a
    name; sigmoids of a student get its probabilities. Of sigmoids the highest of a group counts."""
    logits = torch.tensor([[2.0, -1.0, 0.5, 0.3, 1.0], [-3.0, 4.0, 0.0, -2.0, 6.0]])  # car, bus, truck, person, dog
    mapped = [*CLASSES[:1], "['vehicle', 'man']", "DISTILL.TEACHER.CLASSES.vehicle", "['car', 'bus', 'truck']"]
    mapped += ["DISTILL.TEACHER.CLASSES.man", "person", "DISTILL.TEACHER.WEIGHTS", tmp_path]
    given = {}
    for kind in ("rt-detr", "detr"):
        detectors.write(kind, tmp_path)
        teacher = build(STUDENT, *mapped, "MODEL.ROI_HEADS.NUM_CLASSES", 2).distillation.teacher
        given[kind] = {form: teacher.in_student_classes(logits, form) for form in ("softmax", "sigmoid")}
    for number, (car, bus, truck, person, dog) in enumerate(logits.double().exp().tolist()):
        highest = max(car, bus, truck)
        of_sigmoids = [highest / (1 + highest), person / (1 + person)]
        against = [highest / (1 + highest + person), person / (1 + highest + person)]
        together = 1 + car + bus + truck + person + dog
        of_softmax = [(car + bus + truck) / together, person / together]
        rows = {kind: {form: x[number].double() for form, x in forms.items()} for kind, forms in given.items()}
        assert rows["rt-detr"]["sigmoid"].sigmoid().tolist() == pytest.approx(of_sigmoids, rel=1e-6)
        assert rows["rt-detr"]["softmax"].softmax(0)[:2].tolist() == pytest.approx(against, rel=1e-6)
        assert rows["detr"]["softmax"].softmax(0)[:2].tolist() == pytest.approx(of_softmax, rel=1e-6)
        assert rows["detr"]["sigmoid"].sigmoid().tolist() == pytest.approx(of_softmax, rel=1e-5)


@pytest.mark.parametrize(
    ("file", "words", "message"),
    [
        (STUDENT, ["DISTILL.MIMIC.WEIGHT", "1"], "needs features, which this pair does not have (the teacher gives"),
        (STUDENT, ["DISTILL.RPN.WEIGHT", "1"], "needs proposals, which this pair does not have (the teacher gives"),
        (RETINANET, ["DISTILL.CROSSKD.WEIGHT", "1"], "needs crossed_3, which this pair does not have (the"),
        (STUDENT, ["DISTILL.BOX.WEIGHT", "1", "DISTILL.BOX.STAGES", "refined"], "needs refined_boxes, which this pair"),
        (STUDENT, ["DISTILL.INHERIT", "['neck']"], "DISTILL.INHERIT is ['neck'], and the teacher their_boxes:build"),
        (RETINANET, ["DISTILL.TEACHER.INPUT_SCALE", "2.0"], "DISTILL.TEACHER.INPUT_SCALE is 2.0, and the teacher"),
        (STUDENT, ["DISTILL.TEACHER.CACHE_MAPS", "True"], "DISTILL.TEACHER.CACHE_MAPS is True, and the teacher"),
        (STUDENT, ["DISTILL.TEACHER.KIND", "auto"], "RetinaNets are; for one that gives boxes, scores and"),
        (STUDENT, ["DISTILL.TEACHER.CLASSES.3", "three"], "does not name its classes: name them in DATASETS.CLASSES"),
        (STUDENT, ["DISTILL.TEACHER.CLASSES.3", "11"], "gives scores of 10 classes: no class 11"),
    ],
)  # fmt: skip
def test_what_such_a_teacher_cannot_give_is_refused(function, file, words, message):
    with pytest.raises(UserError) as told:
        build(file, *function, *words)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_it_is_not_averaged_with_others(function, tmp_path):
    more = dict(zip(("CONFIG_FILE", "WEIGHTS"), save_teacher(tmp_path)[1::2], strict=True))
    with pytest.raises(UserError, match=r"DISTILL.TEACHER.MORE: a teacher that gives boxes with class scores alone"):
        build(STUDENT, *function, "DISTILL.TEACHER.MORE", str([more]))
