"""DistillRCNN and its teacher: what is distilled, on which boxes, and what is left of the teacher."""

import copy

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import BitMasks, Boxes
from detectron2.utils.events import EventStorage

from densedist.common.config import load
from densedist.common.distill.taps import per_image
from densedist.common.engine.solver import make_optimizer
from densedist.common.losses import DISTLoss, MimicLoss, RKDLoss
from densedist.common.modules import record
from densedist.det import add_distill_config
from densedist.det.architectures import class_count
from densedist.det.config import GRAMMAR, without_distillation
from densedist.det.rcnn import DistillRCNN
from densedist.det.taps.features import shared_levels
from densedist.det.taps.rois import live_class_logits
from helpers.tiny import C4, CONFIGS, HEADS, STRIDES, STUDENT, batch, build_student, config, inside, save_teacher


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def student(teacher_keys):
    torch.manual_seed(0)
    return build_student(config(STUDENT, *teacher_keys)).train()


def losses_of(model, inputs, seed=0):
    torch.manual_seed(seed)
    with EventStorage():
        return model(inputs)


def test_distillation_adds_its_loss_and_changes_no_other(student, teacher_keys):
    plain = build_student(without_distillation(config(STUDENT, *teacher_keys))).train()
    plain.load_state_dict(student.state_dict())
    alone, distilled = losses_of(plain, batch()), losses_of(student, batch())
    assert set(distilled) - set(alone) == {"loss_dist"}
    for name, loss in alone.items():
        assert distilled[name] == loss, name
    assert distilled["loss_dist"] > 0


def test_loss_is_the_one_of_the_students_and_the_teachers_logits(student):
    """Recomputed by hand: the student's logits as its predictor returned them, the teacher's part by part."""
    inputs = batch()
    with (
        record(student.roi_heads.box_predictor, lambda _, output: output[0]) as logits,
        record(student.roi_heads.box_pooler, lambda args, _: args[1]) as boxes,
    ):
        losses = losses_of(student, inputs)
    teacher = student.distillation.teacher.model
    assert len(logits) == len(boxes) == 1
    assert sum(map(len, boxes[0])) == 2 * 32 == len(logits[0])
    features = teacher.backbone(teacher.preprocess_image(inputs).tensor)
    heads = teacher.roi_heads
    pooled = heads.box_pooler([features[name] for name in heads.box_in_features], boxes[0])
    theirs = heads.box_predictor[0](heads.box_head[0](pooled))[0]
    torch.testing.assert_close(losses["loss_dist"], DISTLoss()(logits[0], theirs), rtol=1e-5, atol=0)


def test_teacher_sees_the_boxes_that_the_student_sampled(student):
    taught = student.distillation.teacher.model
    with (
        record(student.roi_heads, lambda _, output: [p.proposal_boxes.tensor for p in output[0]]) as sampled,
        record(taught.roi_heads.box_pooler, lambda args, _: [b.tensor for b in args[1]]) as seen,
    ):
        losses_of(student, batch())
    assert len(seen) == 1
    for ours, theirs in zip(sampled[0], seen[0], strict=True):
        assert torch.equal(ours, theirs)


def test_only_the_needed_parts_of_the_teacher_run(student):
    teacher = student.distillation.teacher.model
    unused = [teacher.proposal_generator, teacher.roi_heads.mask_head, *list(teacher.roi_heads.box_head)[1:]]
    handles = [part.register_forward_hook(lambda *_: pytest.fail("ran")) for part in unused]
    losses_of(student, batch())
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("teacher_heads", HEADS)
@pytest.mark.parametrize("student_heads", HEADS)
@pytest.mark.parametrize("masks", [False, True])
def test_every_pair_of_heads_trains(tmp_path, teacher_heads, student_heads, masks):
    keys = save_teacher(tmp_path, "MODEL.ROI_HEADS.NAME", "StandardROIHeads", *HEADS[teacher_heads])
    model = build_student(config(STUDENT, *keys, *HEADS[student_heads], "MODEL.MASK_ON", masks)).train()
    inputs = batch()
    if masks:
        for x in inputs:
            x["instances"].gt_masks = BitMasks(torch.ones(3, *x["image"].shape[1:], dtype=torch.bool))
    with EventStorage():
        losses = model(inputs)
        sum(losses.values()).backward()
    assert losses["loss_dist"].isfinite()
    stages = 3 if student_heads == "cascade" else 1
    assert sum(name.startswith("loss_cls") for name in losses) == stages
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_c4_heads_train_and_teach(tmp_path):
    model = build_student(config(STUDENT, *save_teacher(tmp_path, *C4), *C4)).train()
    assert losses_of(model, batch())["loss_dist"] > 0


def test_teacher_gives_the_logits_it_gives_alone_whatever_the_students_format(teacher_keys):
    """The student reads RGB, the teacher BGR with another mean; boxes and raw images are the same."""
    inputs = batch()
    boxes = [x["instances"].gt_boxes for x in inputs]
    alone = DistillRCNN.load_teacher(config(STUDENT, *teacher_keys)).model
    features = alone.backbone(alone.preprocess_image(inputs).tensor)
    pooled = alone.roi_heads.box_pooler([features[f] for f in alone.roi_heads.box_in_features], boxes)
    wanted = alone.roi_heads.box_predictor[0](alone.roi_heads.box_head[0](pooled))[0]

    rgb = config(STUDENT, *teacher_keys, "INPUT.FORMAT", "RGB", "MODEL.PIXEL_MEAN", "[1.0, 2.0, 3.0]")
    as_rgb = [x["image"].flip(0) for x in inputs]
    torch.testing.assert_close(live_class_logits(DistillRCNN.load_teacher(rgb), as_rgb, [boxes])[0], wanted)
    unflipped = live_class_logits(DistillRCNN.load_teacher(config(STUDENT, *teacher_keys)), as_rgb, [boxes])[0]
    assert not torch.allclose(unflipped, wanted)


def test_mean_of_the_stages_is_the_mean_of_their_probabilities(teacher_keys):
    teacher = DistillRCNN.load_teacher(config(STUDENT, *teacher_keys, "DISTILL.TEACHER.CASCADE_STAGES", "mean"))
    inputs = batch()
    boxes = [x["instances"].gt_boxes for x in inputs]
    heads = teacher.model.roi_heads
    with record(heads.box_pooler, lambda _, output: output) as pooled:
        seen = live_class_logits(teacher, [x["image"] for x in inputs], [boxes])[0]
    stages = [predict(head(pooled[0]))[0] for head, predict in zip(heads.box_head, heads.box_predictor, strict=True)]
    torch.testing.assert_close(seen.softmax(1), torch.stack([s.softmax(1) for s in stages]).mean(0))


def test_teacher_is_in_no_part_of_the_student(student, teacher_keys):
    plain = build_student(without_distillation(config(STUDENT, *teacher_keys)))
    assert set(student.state_dict()) == set(plain.state_dict())
    theirs = {id(parameter) for parameter in student.distillation.teacher.model.parameters()}
    assert not theirs & {id(parameter) for parameter in student.parameters()}
    assert not theirs & {
        id(p) for group in make_optimizer(config(STUDENT), student).param_groups for p in group["params"]
    }
    assert copy.deepcopy(student).distillation.teacher is student.distillation.teacher


def test_teacher_stays_frozen_in_eval_mode_and_unchanged(student):
    before = copy.deepcopy(student.distillation.teacher.model.state_dict())
    student.train()
    with EventStorage():
        losses = student(batch())
        sum(losses.values()).backward()
    for module in student.distillation.teacher.model.modules():
        assert not module.training
    for parameter in student.distillation.teacher.model.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None
    for name, value in student.distillation.teacher.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_teacher_does_not_move_the_random_numbers_of_the_student(teacher_keys):
    def first_numbers(cfg):
        torch.manual_seed(0)
        model = build_student(cfg)
        return [*(p.sum() for p in model.parameters()), torch.rand(())]

    with_teacher = first_numbers(config(STUDENT, *teacher_keys))
    assert with_teacher == first_numbers(without_distillation(config(STUDENT, *teacher_keys)))


def test_student_in_eval_mode_is_the_plain_model(student, teacher_keys):
    plain = build_student(without_distillation(config(STUDENT, *teacher_keys)))
    plain.load_state_dict(student.state_dict())
    handle = student.distillation.teacher.model.backbone.register_forward_hook(
        lambda *_: pytest.fail("the teacher ran")
    )
    seen, wanted = (model.eval()(batch()) for model in (student, plain))
    handle.remove()
    for ours, theirs in zip(seen, wanted, strict=True):
        assert torch.equal(ours["instances"].pred_boxes.tensor, theirs["instances"].pred_boxes.tensor)


def test_batch_without_any_roi_gives_a_zero_with_gradient(student):
    """All proposals gone and no object: Detectron2 trains on, so must we."""
    inputs = batch()
    for x in inputs:
        x["instances"] = x["instances"][:0]
    student.proposal_generator.post_nms_topk[True] = 0
    losses = losses_of(student, inputs)
    assert losses["loss_dist"] == 0
    assert losses["loss_dist"].requires_grad


def test_all_weights_zero_means_no_teacher(teacher_keys):
    model = build_student(config(STUDENT, *teacher_keys, "DISTILL.DIST.WEIGHT", "0"))
    assert model.distillation is None
    assert "loss_dist" not in losses_of(model.train(), batch())


def test_kd_and_dist_together_are_weighted(teacher_keys):
    def model(*overrides):
        torch.manual_seed(0)
        return build_student(config(STUDENT, *teacher_keys, *overrides)).train()

    once = losses_of(model("DISTILL.KD.WEIGHT", "1"), batch())
    twice = losses_of(model("DISTILL.KD.WEIGHT", "2", "DISTILL.DIST.WEIGHT", "0.5"), batch())
    torch.testing.assert_close(twice["loss_kd"], 2 * once["loss_kd"])
    torch.testing.assert_close(twice["loss_dist"], 0.5 * once["loss_dist"])


def test_two_keys_make_an_ordinary_detectron2_config_distil(teacher_keys):
    """A stock config of the model zoo, as a user's own script would load it."""
    from detectron2 import model_zoo

    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"))
    add_distill_config(cfg)
    cfg.merge_from_list(
        ["MODEL.META_ARCHITECTURE", "DistillRCNN", "MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", "10"]
    )
    stock = set(GeneralizedRCNN(cfg).state_dict())
    cfg.merge_from_list([*teacher_keys, "DATASETS.TRAIN", "('digits_train',)"])
    assert set(build_student(cfg).state_dict()) == stock


@pytest.mark.usefixtures("quick_weights")
def test_every_shipped_config_builds_and_gives_its_losses():
    """As shipped but for the data and the teacher, which are not there."""
    files = [file for file in CONFIGS.rglob("det/**/*.yaml") if not file.name.endswith("base.yaml")]
    assert len(files) > 10
    seen = set()
    for file in files:
        cfg = load(GRAMMAR, str(file))
        cfg.MODEL.DEVICE = "cpu"
        if cfg.MODEL.dump() in seen:  # another loss on a model that has been here
            continue
        seen.add(cfg.MODEL.dump())
        cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16  # fewer than shipped, for time's sake
        model = build_student(without_distillation(cfg)).train()
        inputs = batch(size=64)
        for x in inputs:
            x["instances"].gt_masks = BitMasks(torch.ones(3, *x["image"].shape[1:], dtype=torch.bool))
            x["instances"].gt_classes %= class_count(cfg)
        with torch.no_grad():
            losses = losses_of(model, inputs)
        assert losses
        assert all(loss.isfinite() for loss in losses.values()), file


def test_mimic_on_the_maps_of_both_backbones(teacher_keys):
    keys = ["DISTILL.DIST.WEIGHT", "0.0", "DISTILL.MIMIC.WEIGHT", "2.0"]
    torch.manual_seed(0)
    model = build_student(config(STUDENT, *teacher_keys, *keys)).train()
    inputs, teacher = batch(), model.distillation.teacher.model
    with record(model.backbone, lambda _, output: output) as ours:
        losses = losses_of(model, inputs)
    with torch.no_grad():
        theirs = teacher.backbone(teacher.preprocess_image(inputs).tensor)
    adapters = model.distillation.distiller.adapters["mimic"]
    wanted = sum(
        MimicLoss()(a(ours[0][n]), theirs[n], inside(inputs, theirs[n], STRIDES[n]))
        for a, n in zip(adapters, ("p2", "p3", "p4", "p5"), strict=True)
    )
    assert torch.allclose(losses["loss_mimic"], 2 * wanted)


def test_relations_among_the_regions_of_both_sides(teacher_keys):
    keys = ["DISTILL.DIST.WEIGHT", "0.0", "DISTILL.RKD.WEIGHT", "1000.0", "DISTILL.RKD.SAMPLES", "rois"]
    torch.manual_seed(0)
    model = build_student(config(STUDENT, *teacher_keys, *keys)).train()
    inputs, teacher = batch(), model.distillation.teacher.model
    with record(model.roi_heads.box_pooler, lambda args, output: (args[1], output)) as regions:
        losses = losses_of(model, inputs)
    boxes, pooled = regions[0]
    assert len(pooled) <= 64
    with torch.no_grad():
        features = teacher.backbone(teacher.preprocess_image(inputs).tensor)
        theirs = teacher.roi_heads.box_pooler([features[n] for n in teacher.roi_heads.box_in_features], boxes)
    assert torch.allclose(losses["loss_rkd"], RKDLoss()(per_image(pooled), per_image(theirs)))


def test_adapters_are_no_part_of_the_student(teacher_keys):
    model = build_student(config(STUDENT, *teacher_keys, "DISTILL.MIMIC.WEIGHT", "1.0"))
    plain = build_student(without_distillation(config(STUDENT)))
    assert set(model.state_dict()) == set(plain.state_dict())
    extra = {name for name, _ in model.named_parameters()} - {name for name, _ in plain.named_parameters()}
    assert extra == {
        f"distillation.distiller.adapters.mimic.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")
    }
    assert str(model.load_state_dict(plain.state_dict())) == "<All keys matched successfully>"


def pooled_in(model, precision, maps, boxes, name):
    """What the model's pooler makes of the maps in that precision."""
    with torch.autocast("cpu", precision, enabled=precision is not torch.float32):
        return getattr(model.roi_heads, name)([x.to(precision) for x in maps], boxes)


@pytest.mark.parametrize("name", ["box_pooler", "mask_pooler"])
def test_boxes_are_not_rounded_under_autocast(name, teacher_keys):
    """Of a map that is a ramp from left to right, the pooled mean is the place of the box."""
    model = build_student(config(STUDENT, *teacher_keys, "MODEL.MASK_ON", "True")).train()
    model = copy.deepcopy(model)  # as for an average of the weights
    ramp = torch.arange(256.0).expand(1, 8, 256, 256)
    maps = [ramp * 4, ramp[..., ::2, ::2] * 4, ramp[..., ::4, ::4] * 4]
    box = torch.tensor([[701.3, 300.0, 731.3, 330.0]])
    for precision in (torch.float32, torch.bfloat16):
        # Multiples of 4 up to 1024 in bfloat16: of 8 bits, the ramp itself is rounded, the boxes are not.
        found = pooled_in(model, precision, maps, [Boxes(box)], name)
        wanted = pooled_in(model, torch.float32, [x.to(precision).float() for x in maps], [Boxes(box)], name)
        assert torch.equal(found, wanted)
    assert abs(found.mean().item() - 716.3) < 3


def test_pooling_in_float32_is_the_stock_one(teacher_keys):
    model = build_student(config(STUDENT, *teacher_keys))
    stock = build_student(config(STUDENT, "MODEL.META_ARCHITECTURE", "GeneralizedRCNN"))
    maps = [torch.rand(1, 8, 32 // 2**level, 32 // 2**level) for level in range(3)]
    boxes = [Boxes(torch.tensor([[3.3, 5.1, 40.7, 60.2], [0.2, 0.3, 120.0, 110.0]]))]
    assert torch.equal(model.roi_heads.box_pooler(maps, boxes), stock.roi_heads.box_pooler(maps, boxes))


@pytest.mark.parametrize("backwards", [False, True])
def test_maps_of_backbones_that_pad_differently_are_compared_where_both_are(tmp_path, backwards):
    """A pyramid pads images to multiples of its stride, a plain ResNet does not; 97x97 is a multiple of nothing."""
    teacher, student = ([], C4) if backwards else (C4, [])
    model = build_student(config(STUDENT, *save_teacher(tmp_path, *teacher), *student, "DISTILL.MIMIC.WEIGHT", "1.0"))
    inputs, teacher = batch(size=97), model.train().distillation.teacher.model
    levels = shared_levels(model.backbone, teacher.backbone)
    assert levels == (["res4"], ["p4"]) if backwards else (["p4"], ["res4"])
    with record(model.backbone, lambda _, output: output) as ours:
        losses = losses_of(model, inputs)
    with torch.no_grad():
        theirs = teacher.backbone(teacher.preprocess_image(inputs).tensor)
    height, width = 7, 8  # of 97x113, in strides of 16
    sides = [x[..., :height, :width] for x in (*(ours[0][n] for n in levels[0]), theirs[levels[1][0]])]
    assert all(x.shape[-2:] == (height, width) for x in sides)
    (adapter,) = model.distillation.distiller.adapters["mimic"]
    wanted = MimicLoss()(adapter(sides[0]), sides[1], inside(inputs, sides[1], 16))
    torch.testing.assert_close(losses["loss_mimic"], wanted)
