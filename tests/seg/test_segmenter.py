"""The student's losses, its teacher, and what neither may do."""

import copy

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F

from densedist.common.distill.distiller import describe
from densedist.common.distill.taps import per_cell, per_class, per_image
from densedist.common.errors import UserError
from densedist.common.losses import CIRKDLoss, CWDLoss, DISTLoss, KDLoss, MimicLoss, RKDLoss
from densedist.common.profile import as_if_trained
from densedist.seg.labels import IGNORE
from densedist.seg.models import build_segmenter, read_config
from densedist.seg.networks.network import load_network
from densedist.seg.networks.resampling import nearest, resize
from densedist.seg.teacher_loading import load_teacher
from helpers import reference
from helpers.scenes import CONFIGS, STUDENT, batch, config, save_teacher

AUX = ["MODEL.AUX_HEAD.ENABLED", "True"]


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def aux_teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("aux"), *AUX)


def build(*overrides, file=STUDENT):
    torch.manual_seed(0)
    model = build_segmenter(config(file, *overrides))
    model.train().network.eval()  # dropout and batch statistics would differ between two forwards
    return model


def parts(model, samples):
    """The student's logits for a batch, and the labels."""
    with torch.no_grad():
        logits = model.network(model.network.preprocess([s["image"] for s in samples]))
    return logits, torch.stack([s["sem_seg"] for s in samples])


def test_cross_entropy_at_the_labels_size_without_ignored_pixels():
    model, samples = build(), batch()
    logits, labels = parts(model, samples)
    up = F.interpolate(logits["cls_logits"], size=(64, 64), mode="bilinear", align_corners=True).double()
    logp = up.log_softmax(1)
    weights = torch.tensor([0.2] + [1.0] * 10).double()
    total = weight = 0.0
    for n in range(2):
        for y in range(64):
            for x in range(64):
                label = int(labels[n, y, x])
                if label != IGNORE:
                    total -= weights[label] * logp[n, label, y, x]
                    weight += weights[label]
    assert float(model(samples)["loss_ce"]) == pytest.approx(float(total / weight), rel=1e-5)


def test_losses_are_the_formula_of_the_paper(aux_teacher_keys):
    """CE + 0.4·CE(aux) + w·(DIST(main) + 0.4·DIST(aux)), DIST on raw logits of all pixels."""
    model, samples = build(*aux_teacher_keys, *AUX, "DISTILL.DIST.WEIGHT", "3.0", "DISTILL.DIST.TAU", "2.0"), batch()
    logits, labels = parts(model, samples)
    teacher = load_network_of(aux_teacher_keys)
    with torch.no_grad():
        taught = teacher(teacher.preprocess([s["image"] for s in samples]))
    losses = model(samples)
    assert set(losses) == {"loss_ce", "loss_ce_aux", "loss_dist", "loss_dist_aux_logits"}
    weights = torch.tensor(model.task.class_weights)
    aux = F.cross_entropy(resize(logits["aux_logits"], (64, 64)), labels, weights, ignore_index=IGNORE)
    assert torch.allclose(losses["loss_ce_aux"], 0.4 * aux)
    dist = DISTLoss(tau=2.0)
    assert torch.allclose(losses["loss_dist"], 3 * dist(logits["cls_logits"], taught["cls_logits"]))
    taught_aux = resize(taught["aux_logits"], (8, 8))  # the teacher's last stage but one is finer
    assert torch.allclose(losses["loss_dist_aux_logits"], 3 * 0.4 * dist(logits["aux_logits"], taught_aux))


def load_network_of(keys):
    return load_network(config(keys[1]), keys[3], "").eval()


def test_ignored_pixels_can_be_left_out_of_distillation(teacher_keys):
    keys = [*teacher_keys, "DISTILL.IGNORED_PIXELS", "False", "DISTILL.KD.WEIGHT", "2.0"]
    model, samples = build(*keys), batch(ignored=0.5)
    logits, labels = parts(model, samples)
    teacher = load_network_of(teacher_keys)
    with torch.no_grad():
        taught = teacher(teacher.preprocess([s["image"] for s in samples]))["cls_logits"]
    valid = nearest(labels, taught.shape[2:]) != IGNORE
    assert 0 < valid.sum() < valid.numel()
    losses = model(samples)
    assert torch.allclose(losses["loss_dist"], DISTLoss()(logits["cls_logits"], taught, valid))
    assert torch.allclose(losses["loss_kd"], 2 * KDLoss()(logits["cls_logits"], taught, valid))


def test_plan_says_where_distillation_applies(teacher_keys, aux_teacher_keys):
    def plan(*keys):
        model = build(*keys)
        return describe(model.network.smp, model.distillation)

    assert plan().endswith("loss     task")
    main = "task + 1.0·dist(cls_logits at stride 8, 8x8)"
    assert plan(*teacher_keys, *AUX).endswith(f"loss     = {main}")
    assert plan(*aux_teacher_keys).endswith(f"loss     = {main}")
    assert plan(*aux_teacher_keys, *AUX).endswith(f"{main} + 0.4·dist_aux_logits(aux_logits at stride 8, 8x8)")


def test_image_without_a_pixel_that_counts_gives_zero_and_a_gradient():
    model, samples = build(), batch()
    for sample in samples:
        sample["sem_seg"][:] = IGNORE
    loss = model(samples)["loss_ce"]
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_images_of_any_size_are_padded_and_the_padding_does_not_count():
    model = build()
    small, large = batch(1, size=(50, 61))[0], batch(1, size=(64, 64))[0]
    loss = model([small, large])["loss_ce"]
    raw = model.network(model.network.preprocess([small["image"], large["image"]]))["cls_logits"]
    up = resize(raw, (64, 64))
    labels = torch.full((2, 64, 64), IGNORE)
    labels[0, :50, :61], labels[1] = small["sem_seg"], large["sem_seg"]
    weights = torch.tensor(model.task.class_weights)
    assert torch.allclose(loss, F.cross_entropy(up, labels, weights, ignore_index=IGNORE))
    model.eval()
    with torch.no_grad():
        assert model([{"image": small["image"]}])[0]["sem_seg"].shape == (11, 50, 61)


def test_teacher_is_no_part_of_the_student(teacher_keys):
    plain, distilled = build(), build(*teacher_keys)
    assert set(plain.state_dict()) == set(distilled.state_dict())
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in distilled.parameters())
    teacher = distilled.distillation.teacher.model
    distilled.train()
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    before = copy.deepcopy(teacher.state_dict())
    sum(distilled(batch()).values()).backward()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    assert copy.deepcopy(distilled).distillation.teacher is distilled.distillation.teacher


def test_student_starts_from_the_same_weights_with_and_without_a_teacher(teacher_keys):
    torch.manual_seed(7)
    build_segmenter(config(STUDENT))
    wanted = torch.rand(1)
    torch.manual_seed(7)
    build_segmenter(config(STUDENT, *teacher_keys))
    assert torch.equal(torch.rand(1), wanted)


def test_teacher_normalizes_its_own_way(tmp_path):
    """BGR with another mean for an RGB student: the logits of the teacher alone on the BGR image."""
    keys = save_teacher(tmp_path, "INPUT.FORMAT", "BGR", "MODEL.PIXEL_MEAN", "[104.0, 116.7, 122.7]")
    teacher = load_teacher(config(STUDENT, *keys))
    alone = load_network_of(keys)
    rgb = [sample["image"] for sample in batch()]
    with torch.no_grad():
        wanted = alone(alone.preprocess([image.flip(0) for image in rgb]))["cls_logits"]
        unflipped = alone(alone.preprocess(rgb))["cls_logits"]
    seen = teacher.output(rgb, {"cls_logits": wanted}, (64, 64))["cls_logits"]
    assert torch.allclose(seen, wanted, atol=1e-5)
    assert not torch.allclose(seen, unflipped, atol=1e-2)


def test_teacher_of_another_stride_is_resized_to_the_student(teacher_keys):
    file = CONFIGS / "digits" / "base.yaml"
    unet = ["MODEL.ARCHITECTURE", "Unet", "MODEL.ENCODER.NAME", "resnet18"]
    model = build(*unet, *teacher_keys, file=file)
    losses = model(batch())  # the student's logits are of 64x64, the teacher's of 8x8
    assert torch.isfinite(losses["loss_dist"])


def test_teacher_that_was_never_trained(tmp_path):
    keys = save_teacher(tmp_path)
    saved = torch.load(tmp_path / "weights.pth", weights_only=True)
    fresh = build_segmenter(config(tmp_path / "config.yaml")).network.smp.state_dict()
    decoder = {name: value for name, value in fresh.items() if name.startswith("decoder.")}
    torch.save({"model": saved["model"] | decoder}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"TEACHER.WEIGHTS: .*weights.pth: decoder was never trained: all of its \d+"):
        load_teacher(config(STUDENT, *keys))


def test_teacher_from_a_folder_of_smp(tmp_path):
    stock = as_if_trained(smp.create_model("Unet", "resnet18", encoder_weights=None, classes=11).eval())
    stock.save_pretrained(tmp_path)
    teacher = load_teacher(config(STUDENT, "DISTILL.TEACHER.WEIGHTS", tmp_path))
    images = [sample["image"] for sample in batch()]
    mean, std = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]]).view(2, 3, 1, 1)
    with torch.no_grad():
        wanted = stock(torch.stack([(image - mean) / std for image in images]))
    seen = teacher.output(images, {"cls_logits": wanted}, (64, 64))["cls_logits"]
    assert torch.allclose(seen, wanted, atol=1e-4)


def test_teacher_folders_that_differ_in_their_activation_teach_the_same(tmp_path):
    plain = as_if_trained(
        smp.create_model(
            "Unet", "resnet18", encoder_weights=None, classes=11, encoder_depth=3, decoder_channels=(16, 8, 8)
        )
    )
    images, places = [sample["image"] for sample in batch()], {"cls_logits": torch.zeros(1, 11, 8, 8)}
    outputs = []
    for activation in (None, "softmax2d", "sigmoid"):
        active = smp.create_model(**plain.config | {"arch": "Unet", "activation": activation})
        active.load_state_dict(plain.state_dict())
        active.save_pretrained(tmp_path / str(activation))
        teacher = load_teacher(config(STUDENT, "DISTILL.TEACHER.WEIGHTS", tmp_path / str(activation)))
        outputs.append(teacher.output(images, places, (64, 64))["cls_logits"])
    assert outputs[0].min() < 0
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def refused(message, *overrides):
    with pytest.raises(UserError) as error:
        build_segmenter(config(STUDENT, *overrides))
    assert message in str(error.value)


def test_teachers_that_do_not_fit(teacher_keys, tmp_path):
    refused("DISTILL.TEACHER.WEIGHTS is empty", *teacher_keys[:2])
    refused("DISTILL.TEACHER.CONFIG_FILE is empty: name", "DISTILL.TEACHER.WEIGHTS", teacher_keys[3])
    refused("DISTILL.TEACHER.WEIGHTS: there is no file gone.pth", *teacher_keys[:3], "gone.pth")
    refused("is neither a file, nor a packaged config", "DISTILL.TEACHER.CONFIG_FILE", "gone.yaml", *teacher_keys[2:])
    classes = [{"name": name, "ids": [i], "color": [0, 0, i]} for i, name in enumerate("abcdefghijk")]
    keys = save_teacher(tmp_path / "names", "DATASETS.CLASSES", classes)
    refused("class 0 is background in the student's data set, a in the teacher's", *keys)
    keys = save_teacher(tmp_path / "few", "DATASETS.CLASSES", classes[:3], "MODEL.CLASS_WEIGHTS", "[]")
    refused("the student has 11 classes, the teacher 3", *keys)
    smp.create_model("Unet", "resnet18", encoder_weights=None, classes=3).save_pretrained(tmp_path / "smp")
    refused("the student has 11 classes, the teacher 3", "DISTILL.TEACHER.WEIGHTS", tmp_path / "smp")


def test_class_weights_that_do_not_fit():
    with pytest.raises(UserError, match=r"MODEL\.CLASS_WEIGHTS has 2 numbers: want 11"):
        read_config(str(STUDENT), ["MODEL.CLASS_WEIGHTS", "[1.0, 2.0]"])


def test_one_class_is_no_choice():
    """The softmax over one logit is 1 everywhere: loss 0, and a perfect mIoU."""
    one = [{"name": "road", "ids": [7], "color": [0, 0, 0]}]
    message = r"^DATASETS\.CLASSES has one class: name the background too, as a class of its own$"
    with pytest.raises(UserError, match=message):
        read_config(str(STUDENT), ["DATASETS.CLASSES", str(one), "MODEL.CLASS_WEIGHTS", "[]"])


@pytest.mark.parametrize("samples", ["images", "cells", "classes"])
def test_relations_among_samples_of_the_encoders_last_stage(teacher_keys, samples):
    keys = ["DISTILL.DIST.WEIGHT", "0.0", "DISTILL.RKD.WEIGHT", "1000.0", "DISTILL.RKD.SAMPLES", samples]
    model, inputs = build(*teacher_keys, *keys), batch(4)
    teacher = load_network_of(teacher_keys)
    images = [sample["image"] for sample in inputs]
    with torch.no_grad():
        ours = model.network.smp.encoder(model.network.preprocess(images))[-1]
        theirs = teacher.smp.encoder(teacher.preprocess(images))[-1]
    labels = nearest(torch.stack([sample["sem_seg"] for sample in inputs]), ours.shape[2:])
    pool = {"images": per_image, "cells": per_cell, "classes": lambda x: per_class(x, labels)}[samples]
    assert torch.allclose(model(inputs)["loss_rkd"], RKDLoss()(pool(ours), pool(theirs)), atol=1e-5)


def test_feature_and_channel_losses(teacher_keys):
    keys = ["DISTILL.DIST.WEIGHT", "0.0", "DISTILL.MIMIC.WEIGHT", "1.0", "DISTILL.CWD.WEIGHT", "3.0"]
    model, inputs = build(*teacher_keys, *keys, "DISTILL.CWD.TAP", "logit_maps"), batch()
    teacher = load_network_of(teacher_keys)
    images = [sample["image"] for sample in inputs]
    with torch.no_grad():
        ours = model.network(model.network.preprocess(images))
        theirs = teacher(teacher.preprocess(images))
    losses = model(inputs)
    (adapter,) = model.distillation.distiller.adapters["mimic"]
    assert torch.allclose(losses["loss_mimic"], MimicLoss()(adapter(ours["features"]), theirs["features"]))
    assert torch.allclose(losses["loss_cwd"], 3 * CWDLoss()(ours["cls_logits"], theirs["cls_logits"]))


def test_decoupled_by_the_labels_of_both_heads(aux_teacher_keys):
    """Ignored pixels and images without labels do not count, whatever IGNORED_PIXELS says of the other losses."""
    keys = [*AUX, "DISTILL.DIST.WEIGHT", "0.0", "DISTILL.DKD.WEIGHT", "2.0", "DISTILL.DKD.BETA", "4.0"]
    model, samples = build(*aux_teacher_keys, *keys), batch(3)
    logits, labels = parts(model, samples)
    labels[2] = IGNORE
    del samples[2]["sem_seg"]
    taught = model.distillation.teacher.output([s["image"] for s in samples], logits, (64, 64))
    losses = model(samples)
    for name, tap, weight in (("loss_dkd", "cls_logits", 2.0), ("loss_dkd_aux_logits", "aux_logits", 0.8)):
        target = nearest(labels, logits[tap].shape[2:])
        target = torch.where(target == IGNORE, -1, target)
        wanted = weight * reference.dkd(logits[tap], taught[tap], target, beta=4.0)
        assert losses[name].item() == pytest.approx(wanted, rel=1e-4)


def test_losses_that_segmentation_cannot_have(teacher_keys):
    with pytest.raises(UserError, match=r"DISTILL\.FGD needs the boxes of labels for features, which this pair does"):
        build(*teacher_keys, "DISTILL.FGD.WEIGHT", "1.0")


def test_relations_of_pixels_across_the_images(teacher_keys):
    model, samples = build(*teacher_keys, "DISTILL.CIRKD.WEIGHT", "2.0", "DISTILL.CIRKD.PLACES", "16"), batch()
    logits, _ = parts(model, samples)
    taught = model.distillation.teacher.output([s["image"] for s in samples], logits, (64, 64))
    wanted = 2.0 * CIRKDLoss(places=16)(logits["features"], taught["features"])
    assert wanted > 0
    torch.testing.assert_close(model(samples)["loss_cirkd"], wanted)
