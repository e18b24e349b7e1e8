"""What labels say of a detector's taps: the classes of RoIs for DKD, the places of objects for FGD."""

import pytest
import torch
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage

from densedist.common.errors import UserError
from densedist.common.losses import FGDLoss
from densedist.common.modules import record
from densedist.det.config import without_distillation
from densedist.det.taps.features import object_scales
from helpers import reference
from helpers.tiny import C4, DIGITS, HEADS, STUDENT, batch, build_student, config, inside, save_teacher

LABELED = ["DISTILL.DIST.WEIGHT", "0.0", "DATASETS.TRAIN", "('digits_train',)"]
DKD = [*LABELED, "DISTILL.DKD.WEIGHT", "1.0"]
FGD = [*LABELED, "DISTILL.FGD.WEIGHT", "1.0"]


def build(*overrides, file=STUDENT):
    torch.manual_seed(0)
    return build_student(config(file, *overrides)).train()


def losses_of(model, inputs):
    torch.manual_seed(0)
    with EventStorage():
        return model(inputs)


def without_labels(inputs):
    return [{"image": x["image"]} for x in inputs]


@pytest.mark.parametrize("heads", ["faster", "cascade", "c4"])
def test_classes_of_rois_are_those_that_the_student_trains_with(tmp_path, heads, monkeypatch):
    """Of a cascade at each stage, which matches by an overlap of its own."""
    keys = C4 if heads == "c4" else HEADS[heads]
    teacher = save_teacher(tmp_path, *C4, file=STUDENT) if heads == "c4" else save_teacher(tmp_path)
    model = build(*teacher, *DKD, *keys)
    trained, given = [], []
    for predictor in [model.roi_heads.box_predictor] if heads != "cascade" else model.roi_heads.box_predictor:
        stock = predictor.losses

        def losses(predictions, proposals, stock=stock):
            trained.append(torch.cat([p.gt_classes for p in proposals]))
            return stock(predictions, proposals)

        monkeypatch.setattr(predictor, "losses", losses)
    monkeypatch.setattr(
        type(model.distillation.distiller),
        "forward",
        lambda _, taps: given.extend(taps["cls_logits"].targets()) or {},
    )
    losses_of(model, batch())
    assert len(given) == len(trained) == (3 if heads == "cascade" else 1)
    background = model.roi_heads.num_classes
    for ours, wanted in zip(given, trained, strict=True):
        assert torch.equal(ours, wanted)
        assert 0 < (ours == background).sum() < len(ours)


def test_loss_is_that_of_the_rois_and_their_classes(tmp_path):
    model = build(*save_teacher(tmp_path), *DKD, "DISTILL.DKD.BETA", "2.0", "DISTILL.DKD.TAU", "3.0")
    taught = model.distillation.teacher.model
    with (
        record(model.roi_heads.box_predictor, lambda _, output: output[0]) as ours,
        record(taught.roi_heads.box_predictor[0], lambda _, output: output[0]) as theirs,
        record(model.roi_heads, lambda _, output: torch.cat([p.gt_classes for p in output[0]])) as classes,
    ):
        seen = losses_of(model, batch())["loss_dkd"]
    wanted = reference.dkd(ours[0], theirs[0], classes[0], beta=2.0, tau=3.0)
    assert seen.item() == pytest.approx(wanted, rel=1e-4)


def test_images_without_labels_or_objects(tmp_path):
    model = build(*save_teacher(tmp_path), *DKD)
    inputs = [*batch(), *without_labels(batch())]
    losses = losses_of(model, inputs)
    assert losses["loss_dkd"] > 0
    assert losses["loss_dkd_unlabeled"] == 0
    losses["loss_dkd_unlabeled"].backward()
    empty = batch()
    for x in empty:
        x["instances"] = x["instances"][:0]
    with record(model.roi_heads, lambda _, output: torch.cat([p.gt_classes for p in output[0]])) as classes:
        assert losses_of(model, empty)["loss_dkd"] > 0
    assert (classes[0] == model.roi_heads.num_classes).all()


def test_heads_of_sigmoids_are_refused(tmp_path):
    sigmoid = ["MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "True"]
    dense = DIGITS / "retinanet_r10_quarter.yaml", DIGITS / "retinanet_r10t.yaml"
    for file, teacher, keys in ((STUDENT, None, sigmoid), (*dense, [])):
        saved_as = save_teacher(tmp_path / file.stem, *keys, **({"file": teacher} if teacher else {}))
        with pytest.raises(UserError, match=r"DISTILL\.DKD: cls_logits goes through sigmoids, and DKD splits a"):
            build(*saved_as, *DKD, *keys, file=file)


def test_a_place_belongs_to_the_smallest_object_that_touches_it():
    boxes = torch.tensor([[2.0, 3, 30, 21], [8, 8, 12, 16], [37, 0, 40, 1], [9, 25, 9, 31]])
    inputs = batch(1)
    inputs[0]["instances"].gt_boxes = Boxes(boxes[:3])
    for stride in (4, 8, 16):
        maps = torch.zeros(1, 2, 40 // stride, 48 // stride)
        wanted = reference.object_scales(boxes[:3], stride, *maps.shape[2:])
        torch.testing.assert_close(object_scales(inputs, maps, stride)[0], wanted)
    inputs[0]["instances"].gt_boxes = Boxes(boxes[1:])  # the last one of no width
    seen = object_scales(inputs, torch.zeros(1, 2, 10, 12), 4)[0]
    assert seen[6:8, 2].tolist() == [0.5, 0.5]
    assert (seen > 0).sum() == 2 + 1 + 2


def test_objects_beyond_the_map_and_images_without():
    inputs = batch(2)
    inputs[0]["instances"] = inputs[0]["instances"][:0]
    inputs[1]["instances"].gt_boxes = Boxes(torch.tensor([[30.0, 30.0, 60.0, 60.0]] * 3))
    scales = object_scales([*inputs, {"image": inputs[0]["image"]}], torch.zeros(3, 2, 5, 5), 8)
    assert not scales[0].any()
    assert scales[1, 3:, 3:].tolist() == [[0.25, 0.25]] * 2
    assert (scales[1] > 0).sum() == 4
    assert (scales[2] == -1).all()


@pytest.mark.parametrize(
    ("file", "teacher"),
    [(STUDENT, None), (DIGITS / "retinanet_r10_quarter.yaml", None), (STUDENT, DIGITS / "retinanet_r10t.yaml")],
    ids=["Faster R-CNN", "RetinaNet from an R-CNN", "Faster R-CNN from a RetinaNet"],
)
def test_fgd_between_any_two_detectors(tmp_path, file, teacher):
    wide = ["MODEL.FPN.OUT_CHANNELS", "12"]
    keys = save_teacher(tmp_path, *wide, **({"file": teacher} if teacher else {}))
    model = build(*keys, *FGD, file=file)
    taught = model.distillation.teacher.model
    for inputs in (batch(), without_labels(batch())):
        labeled = "instances" in inputs[0]
        with record(model.backbone, lambda _, output: output) as ours:
            losses = losses_of(model, inputs)
        with torch.no_grad():
            theirs = taught.backbone(taught.preprocess_image(inputs).tensor)
        wanted, adapters = 0.0, model.distillation.distiller.adapters
        for number, (name, stride) in enumerate({"p2": 4, "p3": 8, "p4": 16, "p5": 32}.items()):
            student, maps = adapters["fgd"][number](ours[0][name]), theirs[name]
            size = maps.shape[2:]
            target = [
                reference.object_scales(x["instances"].gt_boxes.tensor, stride, *size)
                if labeled
                else torch.full(size, -1.0)
                for x in inputs
            ]
            places = inside(inputs, maps, stride)
            wanted += FGDLoss()(student, maps, places, target=torch.stack(target))
            # Relations start as the maps themselves.
            wanted += 5e-6 * ((student - maps).square() * places[:, None]).sum() / 2
        torch.testing.assert_close(losses["loss_fgd" if labeled else "loss_fgd_unlabeled"], wanted)


def test_what_is_learned_is_no_part_of_the_student(tmp_path):
    keys = save_teacher(tmp_path)
    model = build(*keys, *FGD)
    assert set(model.state_dict()) == set(build_student(without_distillation(config(STUDENT, *keys))).state_dict())
    learned = model.distillation.distiller.adapters["fgd_learned"]
    losses_of(model, batch())["loss_fgd"].backward()
    assert all(p.grad is not None for p in learned.parameters())
    assert set(model.checkpoint_parts(model)) == {"adapters"}
