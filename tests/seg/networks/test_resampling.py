"""Student and teacher are compared at the same places of the image, however each pads its batch."""

import numpy as np
import pytest
import torch
from torch import nn

from densedist.common.distill.build import build_distiller
from densedist.common.distill.distiller import Distillation
from densedist.seg.inference.visualize import relations_of
from densedist.seg.networks.network import Network
from densedist.seg.networks.resampling import Grid, resize, resize_at
from densedist.seg.networks.taps import tap_specs
from densedist.seg.networks.windows import Inference
from densedist.seg.segmenter import Segmenter
from densedist.seg.teacher.teacher import SegTeacher
from helpers.scenes import STUDENT, batch, config

SIZES = [(168, 232), (97, 130), (64, 96)]
STRIDES = [(8, 32), (32, 8), (16, 32), (8, 8), (4, 32)]


class Encoder(nn.Module):
    """Feature maps of half that stride and of it; each place of them knows the pixel on which it lies."""

    def __init__(self, stride):
        super().__init__()
        self.output_stride, self.out_channels = stride, [2, 2]
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return [self._stage(images, stride) for stride in (self.output_stride // 2, self.output_stride)]

    def _stage(self, images, stride):
        rows, columns = (torch.linspace(0, side - 1, side // stride) for side in images.shape[2:])
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        return (places * self.one).to(images.dtype).expand(len(images), -1, -1, -1)


class Places(nn.Module):
    """In the place of an SMP model: the logits are the pixel's row and column, and a constant for each other class."""

    def __init__(self, stride, others=0):
        super().__init__()
        self.encoder, self.head = Encoder(stride), other_classes(others)

    def forward(self, images):
        return self.head(self.encoder(images)[-1])


def other_classes(others):
    return nn.ConstantPad3d((0, 0, 0, 0, 0, others), -1.0)


def network(stride, others=0):
    return Network(Places(stride, others), [0.0] * 3, [1.0] * 3, other_classes(others))


def output_of(student, images):
    padded = student.preprocess(images)
    return student(padded), padded.shape[2:]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("ours", "theirs"), STRIDES)
def test_teachers_map_lies_where_the_students_places_are(size, ours, theirs):
    images = [sample["image"] for sample in batch(2, size=size)]
    teacher = SegTeacher(network(theirs))
    student, padded = output_of(network(ours), images)
    seen = teacher.output(images, student, padded)
    assert set(seen) == set(student) == {"cls_logits", "features", "aux_logits"}
    # Where the teacher's batch ends before the student's, it knows its border.
    edge = torch.tensor(teacher.model.preprocess(images).shape[2:]).view(2, 1, 1) - 1
    for name, places in student.items():
        torch.testing.assert_close(seen[name], places.minimum(edge.float()), rtol=0, atol=1e-3)


def test_half_precision_is_rounded_once():
    images = [sample["image"] for sample in batch(1, size=(168, 232))]
    student, padded = output_of(network(8), images)
    seen = SegTeacher(network(32), precision=torch.float16).output(images, student, padded)["cls_logits"]
    assert seen.dtype == torch.float16
    torch.testing.assert_close(seen.float(), student["cls_logits"], rtol=2e-3, atol=1e-3)


def test_far_places_are_exact_where_float16_has_no_number_for_them():
    """The map is of 4096 places; it holds 1 at the even ones, so that a place off by one would show."""
    maps = (torch.arange(4096) % 2 == 0).half().expand(1, 1, 1, 4096)
    seen = resize_at(maps, (1, 4095), Grid((1, 4096)), (1, 4095))
    assert torch.equal(seen, maps[..., :4095])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("size", [(8, 12), (3, 5), (1, 1), (21, 30)])
def test_batches_of_one_size_are_resized_as_ever(dtype, size):
    maps = torch.randn(2, 3, 8, 12).to(dtype)
    assert torch.equal(resize_at(maps, size, Grid((64, 96)), (64, 96)), resize(maps, size))


@pytest.mark.parametrize("size", [(8, 12), (3, 5), (1, 1), (21, 30)])
def test_bilinear_is_pytorchs(size):
    """The formula for batches of different sizes, on batches that hardly differ."""
    maps = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    hardly = resize_at(maps, size, Grid((10**7, 10**7)), (10**7 + 1, 10**7 + 1))
    torch.testing.assert_close(hardly, resize(maps, size), rtol=0, atol=1e-4)


def test_map_of_one_place_is_everywhere_the_same():
    one = torch.full((1, 1, 1, 1), 3.0)
    assert torch.equal(resize_at(one, (2, 4), Grid((32, 32)), (16, 16)), one.expand(1, 1, 2, 4))


def test_training_sees_no_difference_between_models_that_know_the_place():
    """Of strides 8 and 32 on an indivisible crop: squeezed onto the student's grid, the teacher lies 22 pixels off."""
    keys = ["DISTILL.KD.WEIGHT", "1.0", "DISTILL.KD.TAU", "10.0", "DISTILL.DIST.TAU", "10.0"]
    cfg = config(STUDENT, *keys, "DISTILL.RKD.WEIGHT", "1.0", "DISTILL.RKD.SAMPLES", "classes")
    student, teacher = network(8, 2), SegTeacher(network(32, 2))
    specs = tap_specs(student, 4, 0.4)
    distiller = build_distiller(cfg, specs, specs)
    model = Segmenter(student, Inference(), distillation=Distillation(teacher, distiller)).train()
    samples = batch(2, size=(168, 232), classes=4)
    losses = {name: float(loss.detach()) for name, loss in model(samples).items()}
    assert {"loss_kd", "loss_dist", "loss_rkd"} <= set(losses)
    assert max(loss for name, loss in losses.items() if not name.startswith("loss_ce")) < 1e-4


def test_relations_are_those_of_the_same_places(monkeypatch):
    cfg = config(STUDENT)
    model = Segmenter(network(8, 9), Inference()).eval()
    image = batch(1, size=(168, 232))[0]["image"]
    monkeypatch.setattr("densedist.seg.inference.visualize.Reader", lambda *_: lambda frame: {"image": frame})
    relations = relations_of(cfg, model, SegTeacher(network(32, 9)), [image])
    np.testing.assert_allclose(relations.student, relations.teacher, atol=1e-5)
    np.testing.assert_allclose(relations.intra[:2], 1, atol=1e-5)
