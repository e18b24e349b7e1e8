"""Images without labels: distilled on the student's own proposals or anchors, mixed with labeled ones or alone."""

import json

import pytest
import torch
from detectron2.utils.events import EventStorage

from densedist.common.data import digits
from densedist.common.losses import DISTLoss
from densedist.common.modules import record
from densedist.common.randomness import RunPosition
from densedist.det.loader import training_batches
from densedist.det.modeling import box_head
from densedist.det.models import build_trainee
from helpers.calling import densedist
from helpers.tiny import DIGITS, RETINANET, SMALL, STUDENT, batch, build_student, config, save_retinanet, save_teacher

BOX = ["DISTILL.BOX.WEIGHT", "1.0"]
SHORT = [*SMALL, "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "('digits_test',)"]


@pytest.fixture(scope="module", params=["rcnn", "retinanet"])
def pair(request, tmp_path_factory):
    """A student's config and the keys of its teacher."""
    folder = tmp_path_factory.mktemp(request.param)
    return (STUDENT, save_teacher(folder)) if request.param == "rcnn" else (RETINANET, save_retinanet(folder))


def bare(inputs):
    return [{"image": x["image"]} for x in inputs]


def losses_of(model, inputs):
    torch.manual_seed(0)
    model.loss_normalizer = 100.0  # RetinaNet keeps a running mean of it
    with EventStorage():
        return model(inputs)


def test_mixed_batch_keeps_the_labeled_losses_and_adds_those_of_the_rest(pair):
    file, keys = pair
    torch.manual_seed(0)
    model = build_student(config(file, *keys)).train()
    for module in model.modules():  # batch statistics would differ between one pass and two
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    with_labels, without = batch(2), bare(batch(3, seed=1))
    mixed = losses_of(model, [without[0], *with_labels, *without[1:]])
    assert set(mixed) == set(losses_of(model, with_labels)) | {"loss_dist_unlabeled"}
    for name, loss in losses_of(model, with_labels).items():
        assert torch.allclose(mixed[name], loss), name
    assert torch.allclose(mixed["loss_dist_unlabeled"], losses_of(model, without)["loss_dist_unlabeled"])
    assert model.training
    assert all(child.training for child in model.children())


def test_their_weight_is_a_factor_on_their_losses(pair):
    file, keys = pair
    found = []
    for weight in (1.0, 0.25):
        torch.manual_seed(0)
        more = ["DATASETS.UNLABELED", "('digits_train',)", "DISTILL.UNLABELED_WEIGHT", weight, *BOX]
        trainee = build_trainee(config(file, *keys, *more))
        assert trainee.notes == {
            "images": f"unlabeled ones give only distillation losses, logged as _unlabeled and multiplied by {weight}"
        }
        losses = losses_of(trainee.model.train(), [*batch(1), *bare(batch(1, seed=1))])
        once_more = sum(loss for name, loss in losses.items() if name.endswith("_unlabeled"))
        found.append((losses, torch.autograd.grad(once_more, list(trainee.model.backbone.bottom_up.parameters()))))
    (losses, gradients), (weighed, less) = found
    assert {name for name in losses if name.endswith("_unlabeled")} == {"loss_dist_unlabeled", "loss_box_unlabeled"}
    for name, loss in losses.items():
        assert weighed[name] == loss * (0.25 if name.endswith("_unlabeled") else 1), name
    assert all(torch.equal(got, wanted / 4) for got, wanted in zip(less, gradients, strict=True))


def test_proposals_of_the_student_are_classified_by_both(tmp_path):
    model = build_student(config(STUDENT, *save_teacher(tmp_path))).train()
    inputs, teacher = bare(batch()), model.distillation.teacher.model
    with record(model.roi_heads.box_pooler, lambda args, _: args[1]) as boxes:
        loss = losses_of(model, inputs)["loss_dist_unlabeled"]
    assert all(0 < len(b) <= 32 for b in boxes[0])
    logits = []
    for side in (model, teacher):
        features = side.backbone(side.preprocess_image(inputs).tensor)
        logits.append(box_head.cls_logits(side.roi_heads, features, boxes[0], "first"))
    assert torch.allclose(loss, DISTLoss()(*logits), rtol=1e-4)
    loss.backward()
    assert all(p.grad is not None for p in model.backbone.bottom_up.parameters())


@pytest.mark.parametrize("kind", ["rcnn", "retinanet"])
def test_with_boxes_and_proposals_all_of_a_detector_learns_without_a_label(tmp_path, kind):
    if kind == "rcnn":
        file, keys = STUDENT, [*save_teacher(tmp_path), "DISTILL.RPN.WEIGHT", "1.0"]
    else:
        file, keys = DIGITS / "retinanet_r10_quarter.yaml", save_teacher(tmp_path, file=DIGITS / "retinanet_r10t.yaml")
    model = build_student(config(file, *keys, "DISTILL.BOX.WEIGHT", "1.0")).train()
    sum(losses_of(model, bare(batch())).values()).backward()
    left = [name for name, p in model.named_parameters() if p.grad is None]
    # No head of the RetinaNet looks at p2.
    assert left == [] or (kind == "retinanet" and all(".fpn_lateral2." in n or ".fpn_output2." in n for n in left))


def test_batches_hold_both_kinds(tmp_path):
    digits.ensure()
    keys = [*save_teacher(tmp_path), "DATASETS.UNLABELED", "('digits_train',)", "SOLVER.UNLABELED_IMS_PER_BATCH", "3"]
    samples = next(iter(training_batches(config(STUDENT, *keys))(RunPosition(0))))
    assert ["instances" in sample for sample in samples] == [True, True, False, False, False]


@pytest.mark.parametrize("train", ["('digits_train_60',)", "()"])
def test_one_more_data_set_name_trains_with_images_without_labels(pair, tmp_path, train):
    file, keys = pair
    argv = ["--config-file", str(file), "OUTPUT_DIR", str(tmp_path), *SHORT, *keys]
    densedist("train", "det", *argv, "DATASETS.TRAIN", train, "DATASETS.UNLABELED", "('digits_train',)")
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert ("loss_dist" in lines[0]) == (train != "()")
    seen = lines[0].get("loss_dist_unlabeled", lines[0]["total_loss"])
    assert seen > 0
    assert (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["DATASETS.UNLABELED", "('digits_train',)"], "DATASETS.UNLABELED is set, but there is no teacher"),
        (
            ["DATASETS.UNLABELED", "('digits_trian',)"],
            "DATASETS.UNLABELED: there is no folder digits_trian, nor a data set of this name; did you mean digits_t",
        ),
        (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN is empty: name the training data"),
        (
            ["DATASETS.UNLABELED", "('digits_train',)", "MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"],
            "DATASETS.UNLABELED needs proposals of the student, which MODEL.PROPOSAL_GENERATOR.NAME "
            "PrecomputedProposals does not make: set it to RPN, or leave DATASETS.UNLABELED empty",
        ),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, capsys, overrides, message):
    with pytest.raises(SystemExit) as stop:
        densedist("train", "det", "--config-file", str(STUDENT), "OUTPUT_DIR", str(tmp_path), *SHORT, *overrides)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
