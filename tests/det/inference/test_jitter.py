"""The variance of boxes under jitter: how far a detector's boxes move when it looks at boxes beside them."""

import json

import numpy as np
import pytest
import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import Boxes
from torch import nn

import densedist
from densedist.common.errors import UserError
from densedist.common.labeling import Labeling
from densedist.common.run_files import Weights
from densedist.det.data.coco import read_coco
from densedist.det.inference.jitter import OFFSET, TIMES, box_variances, check_jitter
from densedist.det.inference.labeling import label_images
from helpers.tiny import C4, HEADS, RETINANET, STUDENT, batch, build_student, config, save_teacher

BOXES = Boxes(torch.tensor([[10.0, 20.0, 50.0, 40.0], [12.0, 8.0, 84.0, 32.0], [60.0, 50.0, 88.0, 86.0]]))
CLASSES = torch.tensor([2, 7, 2])


class Predictor(nn.Module):
    """Puts a box where a rule says, the same for all classes."""

    def __init__(self, rule):
        super().__init__()
        self.rule, self.looked_at = rule, None

    def forward(self, regions):
        return torch.zeros(len(regions), 11), torch.zeros(len(regions), 40)

    def predict_boxes(self, predictions, proposals):
        self.looked_at = proposals[0].proposal_boxes.tensor
        return [self.rule(self.looked_at).repeat(1, 10)]


def stubbed(rule):
    """A Faster R-CNN whose last layer is a Predictor, and a sample of an image twice as large."""
    model = build_student(config(STUDENT)).eval()
    model.roi_heads.box_predictor = Predictor(rule)
    image = batch(1)[0]["image"]
    size = image.shape[1:]
    return model, {"image": image, "height": 2 * size[0], "width": 2 * size[1]}


def test_the_variance_is_the_papers():
    """In float64, of a head that leaves boxes where they are: those of the sample, in pixels of the original image."""
    model, sample = stubbed(lambda boxes: boxes)
    found = box_variances(model, sample, Boxes(2 * BOXES.tensor), CLASSES)
    seen = model.roi_heads.box_predictor.looked_at.double().numpy().reshape(TIMES, 3, 4)
    wanted = []
    for number, (x0, y0, x1, y1) in enumerate(BOXES.tensor.double().tolist()):
        width, height = x1 - x0, y1 - y0
        deviations = []
        for side in range(4):
            column = seen[:, number, side]
            mean = sum(column) / TIMES
            deviations.append((sum((x - mean) ** 2 for x in column) / (TIMES - 1)) ** 0.5)
            moved = np.abs(column - (x0, y0, x1, y1)[side]) / (width, height)[side % 2]
            assert moved.max() <= OFFSET + 1e-6
            assert moved.max() > OFFSET / 2, "and in most of the range"
        wanted.append(sum(deviations) / 4 / (0.5 * (width + height)))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4)
    assert torch.equal(found, box_variances(model, sample, Boxes(2 * BOXES.tensor), CLASSES))


def test_a_box_that_stays_where_it_is_has_none():
    place = torch.tensor([[5.0, 5.0, 40.0, 40.0]])
    model, sample = stubbed(lambda boxes: place.expand(len(boxes), 4))
    assert box_variances(model, sample, BOXES, CLASSES).tolist() == pytest.approx([0.0] * 3, abs=1e-6)
    assert len(box_variances(model, sample, BOXES[:0], CLASSES[:0])) == 0


def test_what_leaves_the_image_is_cut_off():
    model, sample = stubbed(lambda boxes: boxes + 1000)
    assert box_variances(model, sample, BOXES, CLASSES).tolist() == [0.0] * 3


@pytest.mark.parametrize("keys", [(), HEADS["cascade"], C4], ids=["faster", "cascade", "c4"])
def test_each_kind_of_roi_heads_refines_as_it_predicts(keys):
    """The copies are looked at as proposals are in inference, and the place is that of the class."""
    torch.manual_seed(0)
    model = build_student(config(STUDENT, *keys, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0")).eval()
    heads, sample = model.roi_heads, batch(1)[0]
    predictor = heads.box_predictor[-1] if keys == HEADS["cascade"] else heads.box_predictor
    seen = []
    stock = predictor.predict_boxes
    predictor.predict_boxes = lambda *args: seen.append(stock(*args)) or seen[-1]
    height, width = sample["image"].shape[1:]
    found = box_variances(model, sample | {"height": height, "width": width}, BOXES, CLASSES)
    refined = seen[0][0].detach().view(TIMES, 3, -1, 4)
    of_class = torch.stack([refined[:, n, c if refined.shape[2] > 1 else 0] for n, c in enumerate(CLASSES)], 1).double()
    inside = of_class.clamp(min=0).minimum(torch.tensor([width, height] * 2))
    sides = BOXES.tensor[:, 2:] - BOXES.tensor[:, :2]
    wanted = (inside.std(0) / (0.5 * sides.double().sum(1, keepdim=True))).mean(1)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-6)
    assert (found > 0).all()


def test_it_is_written_with_each_box_of_one_or_several(tmp_path):
    """Nothing else changes, and the same labels have the same."""
    weights, images = save_teacher(tmp_path / "teacher", file=STUDENT)[-1], tmp_path / "images"
    densedist.label([weights], (), UNLABELED, output_dir=tmp_path / "plain", score_threshold=0.3)
    for name, count in (("one", 1), ("again", 1), ("two", 2)):
        out = {"output_dir": tmp_path / name, "score_threshold": 0.3, "box_variance": True}
        densedist.label([weights] * count, images if images.exists() else (), UNLABELED, **out)
    plain, one, again, two = (
        json.loads((tmp_path / name / "annotations.json").read_text())["annotations"]
        for name in ("plain", "one", "again", "two")
    )
    assert [{k: v for k, v in a.items() if k != "box_variance"} for a in one] == plain
    assert one == again
    assert all(a["box_variance"] > 0 for a in [*one, *two])
    assert len({a["box_variance"] for a in one}) > 1
    assert (
        read_coco(str(tmp_path / "one" / "annotations.json")).annotations[0]["box_variance"] == one[0]["box_variance"]
    )


UNLABELED = {"DATASETS.UNLABELED": "['digits_val[:2]']"}


def test_teachers_without_roi_heads_are_refused_before_anything_is_written(tmp_path):
    weights = save_teacher(tmp_path / "teacher", file=RETINANET)[-1]
    with pytest.raises(UserError) as refused:
        densedist.label([weights], (), UNLABELED, output_dir=tmp_path / "out", box_variance=True)
    assert str(refused.value) == (
        "--box-variance, PSEUDO_LABELS.MAX_BOX_VARIANCE: a DistillRetinaNet has no RoI heads to look at jittered boxes "
        "with: take an R-CNN as the teacher, or leave it out"
    )
    assert not (tmp_path / "out" / "annotations.json").exists()
    given = Weights(weights, str(tmp_path / "teacher" / "config.yaml"), True)
    with pytest.raises(UserError, match="no RoI heads"):
        label_images(Labeling([given], {}, tmp_path / "out", box_variance=True, only_check=True))
    model = build_student(config(STUDENT))
    assert isinstance(model, GeneralizedRCNN)
    check_jitter(model)
    model.roi_heads = nn.Identity()
    with pytest.raises(UserError, match=r"MODEL\.ROI_HEADS\.NAME: Identity is not a StandardROIHeads"):
        check_jitter(model)
