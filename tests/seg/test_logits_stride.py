"""DISTILL.LOGITS_STRIDE: where class logits are compared, against interpolation written out in float64."""

import numpy as np
import pytest
import torch

from densedist.common.compare.methods import switches
from densedist.common.distill.distiller import describe
from densedist.common.errors import UserError
from densedist.common.losses import DISTLoss, KDLoss
from densedist.common.randomness import RunPosition
from densedist.common.tune.space import Space
from densedist.seg.cache import fill_cache
from densedist.seg.config import GRAMMAR
from densedist.seg.labels import IGNORE
from densedist.seg.loader import training_batches
from densedist.seg.models import build_segmenter, build_trainee
from densedist.seg.networks.network import load_network
from helpers.scenes import STUDENT, batch, config, save_teacher

AUX = ["MODEL.AUX_HEAD.ENABLED", True]
STRIDES = [1, 3, 4, 16]  # each pixel; no divisor of 64; the usual one; coarser than the student's own map


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"), *map(str, AUX))


def build(*overrides):
    """The student in float64, as is its teacher, without dropout and batch statistics.

    The teacher is as it was saved: its batch norm would be folded in float32.
    """
    torch.manual_seed(0)
    model = build_segmenter(config(STUDENT, *overrides)).double()
    model.train().network.eval()
    teacher = model.distillation.teacher
    teacher.model = load_network(config(overrides[1]), overrides[3], "").eval().double()
    teacher.precision = torch.float64
    return model


def lines(cells, places):
    """The weights (places, cells) of linear interpolation with corners on corners."""
    found = np.zeros((places, cells))
    for place, at in enumerate(np.linspace(0, cells - 1, places)):
        low = min(int(at), max(cells - 2, 0))
        found[place, low] += 1 - (at - low)
        found[place, min(low + 1, cells - 1)] += at - low
    return torch.from_numpy(found)


def interpolated(maps, size):
    return torch.einsum("yr,nkrc,xc->nkyx", lines(maps.shape[2], size[0]), maps, lines(maps.shape[3], size[1]))


def maps_of(network, samples):
    return network(network.preprocess([sample["image"] for sample in samples]).double())


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("ignored", [True, False])
def test_both_sides_are_compared_at_the_stride_with_a_gradient(teacher_keys, stride, ignored):
    """On images of two sizes, in both heads, where pixels and padding are ignored if they are to be."""
    keys = [*teacher_keys, *AUX, "DISTILL.KD.WEIGHT", 1.0, "DISTILL.IGNORED_PIXELS", ignored]
    model = build(*keys, "DISTILL.LOGITS_STRIDE", stride)
    samples = [batch(1, size=(50, 61))[0], batch(1, seed=1)[0]]
    size = [-(-64 // stride)] * 2
    labels = torch.full((2, 64, 64), IGNORE)
    labels[0, :50, :61], labels[1] = samples[0]["sem_seg"], samples[1]["sem_seg"]
    rows = np.round(np.linspace(0, 63, size[0])).astype(int)
    valid = torch.ones(2, *size, dtype=torch.bool) if ignored else (labels != IGNORE)[:, rows][:, :, rows]
    with torch.no_grad():
        taught = maps_of(model.distillation.teacher.model, samples)
    losses = model(samples)
    ours = maps_of(model.network, samples)
    head = [p for p in model.parameters() if p.requires_grad]
    for name, end, factor in (("cls_logits", "", 1.0), ("aux_logits", "_aux_logits", 0.4)):
        student, teacher = (interpolated(side[name], size) for side in (ours, taught))
        for title, loss in (("dist", DISTLoss()), ("kd", KDLoss())):
            wanted, found = factor * loss(student, teacher, valid), losses[f"loss_{title}{end}"]
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)
            gradients = [torch.autograd.grad(x, head, retain_graph=True, allow_unused=True) for x in (found, wanted)]
            for one, other in zip(*gradients, strict=True):
                assert (one is None) == (other is None)
                if one is not None:
                    torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12)


def test_zero_is_the_students_own_map_bit_for_bit(teacher_keys):
    samples = batch()
    own, explicit = (build(*teacher_keys, *AUX, *keys)(samples) for keys in ([], ["DISTILL.LOGITS_STRIDE", 0]))
    assert own.keys() == explicit.keys()
    assert all(torch.equal(own[name], explicit[name]) for name in own)
    with torch.no_grad():
        student, teacher = (
            maps["cls_logits"]
            for maps in (
                maps_of(build(*teacher_keys, *AUX).network, samples),
                maps_of(load_network(config(teacher_keys[1]), teacher_keys[3], "").eval().double(), samples),
            )
        )
    assert own["loss_dist"].item() == pytest.approx(float(DISTLoss()(student, teacher)), rel=1e-9)


@pytest.mark.parametrize("stride", [1, 4])
def test_a_cache_teaches_as_live(teacher_keys, tmp_path, stride):
    more = ["INPUT.CROP_SIZE", [128, 128], "INPUT.SCALES", [1.0], "INPUT.RANDOM_FLIP", "none", *AUX]
    more += ["DISTILL.LOGITS_STRIDE", stride, "DISTILL.KD.WEIGHT", 1.0, "DATASETS.TRAIN", ["train[:4]"]]
    losses = []
    for cache in (tmp_path / "kept", ""):
        cfg = config(STUDENT, *teacher_keys, "DISTILL.TEACHER.CACHE", cache, *more)
        torch.manual_seed(0)
        trainee = build_trainee(cfg)
        fill_cache(cfg, trainee)
        losses.append(trainee.model.train()(next(iter(training_batches(cfg)(RunPosition(0))))))
    cached, live = losses
    for name in live:
        torch.testing.assert_close(cached[name], live[name], rtol=2e-3, atol=1e-4)


def test_padding_that_a_cached_teacher_has_not_seen_does_not_count(teacher_keys, tmp_path):
    """A crop larger than the image, which lies in its corner: nothing is learned of a pixel beyond it. Coordinates come
    for every eighth pixel, and the last pixels of the image have no neighbor to be interpolated with."""
    more = ["INPUT.CROP_SIZE", [160, 160], "INPUT.SCALES", [0.5], "DISTILL.LOGITS_STRIDE", 1]
    cfg = config(STUDENT, *teacher_keys, "DISTILL.TEACHER.CACHE", tmp_path, *more, "DATASETS.TRAIN", ["train[:2]"])
    trainee = build_trainee(cfg)
    fill_cache(cfg, trainee)
    samples = next(iter(training_batches(cfg)(RunPosition(0))))
    places = {"cls_logits": torch.zeros(len(samples), 11, 160, 160)}
    _, known = trainee.distillation.teacher.begin(samples).at(places, (160, 160))
    for seen in known["cls_logits"]:
        assert seen[:56, :56].all()
        assert seen.sum() == seen[:64, :64].sum()


def test_plan_says_stride_and_size(teacher_keys):
    def plan(*keys):
        model = build(*teacher_keys, "INPUT.CROP_SIZE", [160, 208], *keys)
        return describe(model.network, model.distillation).splitlines()[-1]

    assert plan() == "  loss     = task + 1.0·dist(cls_logits at stride 8, 20x26)"
    wanted = "dist(cls_logits at stride 4, 40x52) + 0.4·dist_aux_logits(aux_logits at stride 4, 40x52)"
    assert plan("DISTILL.LOGITS_STRIDE", 4, *AUX) == f"  loss     = task + 1.0·{wanted}"
    features = ["DISTILL.DIST.WEIGHT", 0.0, "DISTILL.MIMIC.WEIGHT", 1.0, "DISTILL.LOGITS_STRIDE", 1]
    assert plan(*features).endswith("task + 1.0·mimic(features)")


def test_it_is_a_key_of_segmentation_and_of_its_methods(teacher_keys):
    words = switches("dist@LOGITS_STRIDE=4", [], task_keys=GRAMMAR.keys())
    assert words[-2:] == ["DISTILL.LOGITS_STRIDE", "4"]
    space = Space.of(["dist@LOGITS_STRIDE=1,4"], config(STUDENT))
    assert space.first("dist").keys == {"DISTILL.LOGITS_STRIDE": "1"}
    with pytest.raises(UserError, match=r"^DISTILL\.LOGITS_STRIDE is -1: want 0 \(the student's own\) or more$"):
        config(STUDENT, "DISTILL.LOGITS_STRIDE", -1)
