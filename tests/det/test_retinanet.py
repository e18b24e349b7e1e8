"""DistillRetinaNet and its teacher: what is distilled, in which rows, and what is left of the teacher."""

import pytest
import torch
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.utils.events import EventStorage

from densedist.common.errors import UserError
from densedist.common.losses import CWDLoss, DISTLoss, KDLoss, MimicLoss
from densedist.common.modules import record
from densedist.det.config import without_distillation
from densedist.det.retinanet import DistillRetinaNet
from densedist.det.taps.anchors import live_class_maps
from densedist.det.taps.features import shared_levels
from densedist.det.taps.grid import different_grids
from helpers import tiny
from helpers.tiny import RETINANET as STUDENT
from helpers.tiny import STRIDES, batch, build_student, config, inside, save_retinanet


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_retinanet(tmp_path_factory.mktemp("teacher"))


def build(*overrides):
    torch.manual_seed(0)
    return build_student(config(STUDENT, *overrides)).train()


def run(model):
    """The losses, and the student's and the teacher's logit maps per level."""
    inputs = batch()
    with EventStorage(), record(model.head, lambda _, output: output[0]) as maps:
        losses = model(inputs)
    teacher = model.distillation.teacher.model
    with torch.no_grad():
        features = teacher.backbone(teacher.preprocess_image(inputs).tensor)
        theirs, _ = teacher.head([features[name] for name in teacher.head_in_features])
    return losses, maps[0], theirs


def test_dist_has_a_row_for_each_anchor_and_a_term_for_each_level(teacher_keys):
    model = build(*teacher_keys, "DISTILL.DIST.TAU", "2.0", "DISTILL.KD.WEIGHT", "0.5")
    losses, ours, theirs = run(model)
    assert len(ours) == 2
    rows = [[permute_to_N_HWA_K(x, 10).flatten(0, 1) for x in side] for side in (ours, theirs)]
    dist, kd = DISTLoss(tau=2.0, activation="sigmoid"), KDLoss(activation="sigmoid")
    assert torch.allclose(losses["loss_dist"], sum(dist(s, t) for s, t in zip(*rows, strict=True)))
    assert torch.allclose(losses["loss_kd"], 0.5 * sum(kd(s, t) for s, t in zip(*rows, strict=True)))


def test_rows_of_the_authors_are_locations(teacher_keys):
    losses, ours, theirs = run(build(*teacher_keys, "DISTILL.DENSE_ROWS", "locations"))
    rows = [[x.movedim(1, -1).flatten(0, 2) for x in side] for side in (ours, theirs)]
    assert rows[0][0].shape[1] == 6 * 10
    dist = DISTLoss(activation="sigmoid")
    assert torch.allclose(losses["loss_dist"], sum(dist(s, t) for s, t in zip(*rows, strict=True)))


def test_distillation_changes_no_other_loss_and_no_weight(teacher_keys):
    model = build(*teacher_keys, "DISTILL.MIMIC.WEIGHT", "1.0")
    plain = build_student(without_distillation(config(STUDENT, *teacher_keys))).train()
    assert set(plain.state_dict()) == set(model.state_dict())
    plain.load_state_dict(model.state_dict())
    with EventStorage():
        alone = plain(batch())
    losses, *_ = run(model)
    assert set(losses) - set(alone) == {"loss_dist", "loss_mimic"}
    assert all(losses[name] == loss for name, loss in alone.items())


def test_students_weights_load_in_a_stock_retinanet(teacher_keys):
    model = build(*teacher_keys, "DISTILL.MIMIC.WEIGHT", "1.0")
    cfg = config(STUDENT, "MODEL.META_ARCHITECTURE", "RetinaNet")
    stock = build_student(cfg)
    assert type(stock) is RetinaNet
    assert str(stock.load_state_dict(model.state_dict())) == "<All keys matched successfully>"


def test_teacher_gives_its_own_logits_in_another_pixel_format(tmp_path):
    keys = save_retinanet(tmp_path, "INPUT.FORMAT", "RGB", "MODEL.PIXEL_MEAN", "[100.0, 120.0, 140.0]")
    teacher = DistillRetinaNet.load_teacher(config(STUDENT, *keys))
    alone, inputs = teacher.model, batch()
    maps = live_class_maps(teacher, [x["image"] for x in inputs])
    flipped = [{"image": x["image"].flip(0)} for x in inputs]
    with torch.no_grad():
        features = alone.backbone(alone.preprocess_image(flipped).tensor)
        wanted, _ = alone.head([features[name] for name in alone.head_in_features])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(maps, wanted, strict=True))


def test_channel_wise_distillation_of_logit_maps(teacher_keys):
    keys = ["DISTILL.DIST.WEIGHT", "0.0", "DISTILL.CWD.WEIGHT", "2.0", "DISTILL.CWD.TAP", "logit_maps"]
    losses, ours, theirs = run(model := build(*teacher_keys, *keys))
    levels = zip(ours, theirs, model.anchor_generator.strides, strict=True)
    wanted = 2 * sum(CWDLoss()(s, t, inside(batch(), t, stride)) for s, t, stride in levels)
    assert torch.allclose(losses["loss_cwd"], wanted)


def test_mimic_on_all_shared_levels(teacher_keys):
    model = build(*teacher_keys, "DISTILL.DIST.WEIGHT", "0.0", "DISTILL.MIMIC.WEIGHT", "1.0")
    teacher = model.distillation.teacher.model
    assert shared_levels(model.backbone, teacher.backbone) == (["p2", "p3", "p4", "p5"], ["p2", "p3", "p4", "p5"])
    inputs = batch()
    with EventStorage(), record(model.backbone, lambda _, output: output) as ours:
        losses = model(inputs)
    with torch.no_grad():
        theirs = teacher.backbone(teacher.preprocess_image(inputs).tensor)
    adapters = model.distillation.distiller.adapters["mimic"]
    wanted = sum(
        MimicLoss()(a(ours[0][n]), theirs[n], inside(inputs, theirs[n], STRIDES[n]))
        for a, n in zip(adapters, ("p2", "p3", "p4", "p5"), strict=True)
    )
    assert torch.allclose(losses["loss_mimic"], wanted)
    losses["loss_mimic"].backward()
    assert all(p.grad is not None for p in adapters.parameters())


@pytest.mark.parametrize(
    ("overrides", "teacher", "message"),
    [
        (["DISTILL.DENSE_ROWS", "pixels"], [], "DISTILL.DENSE_ROWS is pixels: want anchors or locations"),
        ([], ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[1.0]]"], "the student has [6, 6] anchors"),
        (
            [],
            ["MODEL.ANCHOR_GENERATOR.SIZES", "[[16, 22], [30, 48]]"],
            "MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS: anchor 5 at stride 16 is 28.3 x 62.3 pixels of the "
            "student and 32.4 x 71.2 of the teacher; distillation needs the same anchors in the same order",
        ),
        (
            [],
            ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[1.5, 1.0, 2.2]]"],
            "anchor 3 at stride 8 is 22.0 x 22.0 pixels of the student and 18.0 x 26.9 of the teacher",
        ),
        (
            [],
            ["MODEL.ANCHOR_GENERATOR.OFFSET", "0.5"],
            "MODEL.ANCHOR_GENERATOR.OFFSET: the student has 0.0, the teacher 0.5; distillation needs the same",
        ),
        ([], ["MODEL.RETINANET.NUM_CLASSES", "7"], "MODEL.RETINANET.NUM_CLASSES: the student has 10 classes, the"),
        (["DISTILL.RKD.WEIGHT", "1.0", "DISTILL.RKD.SAMPLES", "rois"], [], "DISTILL.RKD needs rois, which this pair"),
    ],
)
def test_pairs_that_do_not_fit(tmp_path, overrides, teacher, message):
    keys = save_retinanet(tmp_path / "t", *teacher)
    with pytest.raises(UserError) as error:
        build(*keys, *overrides)
    assert message in str(error.value)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_anchors_that_differ_by_rounding_only(tmp_path, precision):
    keys = save_retinanet(tmp_path / "t", "MODEL.ANCHOR_GENERATOR.SIZES", "[[16.0003, 21.9996], [30, 42]]")
    build(*keys, "DISTILL.TEACHER.PRECISION", precision)


class Elsewhere(torch.Tensor):
    """A tensor as if on a GPU: with one on the CPU there is no operation, but cpu() brings it back."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        if any(type(x) is torch.Tensor for x in args):
            raise RuntimeError("Expected all tensors to be on the same device")
        return super().__torch_function__(func, types, args, kwargs)


def test_anchors_are_compared_with_those_of_a_teacher_on_a_gpu(teacher_keys):
    """The student follows it there only when it is built."""
    model = build(*teacher_keys)
    teacher = model.distillation.teacher
    anchors = teacher.model.anchor_generator.cell_anchors

    def on_a_gpu(scale):
        for name, value in list(anchors.named_buffers()):
            anchors.register_buffer(name, (value * scale).as_subclass(Elsewhere), persistent=False)

    on_a_gpu(scale=1)
    assert different_grids(model, teacher.model) == ""
    on_a_gpu(scale=2)
    why = different_grids(model, teacher.model)
    assert why.startswith("MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS: anchor ")


def test_two_stage_teacher_has_no_class_logits_of_anchors(tmp_path):
    keys = tiny.save_teacher(tmp_path)
    why = r"DISTILL.DIST needs cls_logits, .* \(the teacher is a GeneralizedRCNN, no RetinaNet\): .*DIST.WEIGHT to 0"
    with pytest.raises(UserError, match=why):
        build(*keys)
