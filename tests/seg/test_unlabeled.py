"""Images without labels: in one batch with labeled ones, or alone."""

import json

import pytest
import torch

from densedist.common.errors import UserError
from densedist.common.losses import DISTLoss
from densedist.common.modules import record
from densedist.common.randomness import RunPosition
from densedist.seg.loader import training_batches
from densedist.seg.models import build_segmenter, build_trainee
from densedist.seg.networks.network import load_network
from helpers.calling import densedist
from helpers.scenes import SMALL, STUDENT, batch, config, save_teacher

SHORT = [*SMALL, "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "['test']"]


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.mark.parametrize("ignored", [True, False])
def test_cross_entropy_of_labeled_images_and_distillation_of_all(teacher_keys, ignored):
    torch.manual_seed(0)
    model = build_segmenter(config(STUDENT, *teacher_keys, "DISTILL.IGNORED_PIXELS", ignored))
    model.train().network.eval()
    with_labels, without = batch(2, ignored=0), [{"image": x["image"]} for x in batch(2, seed=1)]
    losses = model(with_labels + without)
    assert torch.allclose(losses["loss_ce"], model(with_labels)["loss_ce"])
    teacher = load_network(config(teacher_keys[1]), teacher_keys[3], "").eval()
    images = [x["image"] for x in with_labels + without]
    with torch.no_grad():
        logits = [n(n.preprocess(images))["cls_logits"] for n in (model.network, teacher)]
    assert torch.allclose(losses["loss_dist"], DISTLoss()(*logits), rtol=1e-5)


LOSSES = ["DISTILL.MIMIC.WEIGHT", "1.0", "DISTILL.RKD.WEIGHT", "1.0", "DISTILL.RKD.SAMPLES", "cells"]


def test_the_weight_of_images_without_labels_is_that_of_their_gradient(teacher_keys):
    """Of the student's logits and features: times the weight for images without labels, unchanged for the others."""
    inputs = batch(2, ignored=0) + [{"image": x["image"]} for x in batch(2, seed=1)]

    def run(weight):
        torch.manual_seed(0)
        keys = ["DISTILL.UNLABELED_WEIGHT", weight, *LOSSES]
        model = build_segmenter(config(STUDENT, *teacher_keys, *keys)).double().train()
        model.network.eval()
        model.distillation.teacher.model.double()
        model.distillation.teacher.precision = torch.float64
        with record(model.network, lambda _, output: output) as seen:
            losses = {name: loss for name, loss in model(inputs).items() if name != "loss_ce"}
        maps = [seen[0][name] for name in ("cls_logits", "features")]
        return losses, torch.autograd.grad(sum(losses.values()), maps)

    losses, gradients = run(1.0)
    weighed, found = run(0.25)
    assert set(losses) == {"loss_dist", "loss_mimic", "loss_rkd"}
    assert weighed == losses
    for wanted, got in zip(gradients, found, strict=True):
        assert all(wanted[image].abs().sum() > 0 for image in range(4))
        torch.testing.assert_close(got[:2], wanted[:2], rtol=1e-12, atol=0)
        torch.testing.assert_close(got[2:], wanted[2:] / 4, rtol=1e-12, atol=0)


def test_the_plan_says_how_they_count(teacher_keys):
    keys = [*teacher_keys, "DATASETS.UNLABELED", "['train']", "DISTILL.UNLABELED_WEIGHT", "0.5"]
    notes = build_trainee(config(STUDENT, *keys)).notes
    assert notes["images"] == "unlabeled ones give only distillation losses, whose gradient is multiplied by 0.5"
    assert "images" not in build_trainee(config(STUDENT, *teacher_keys)).notes
    with pytest.raises(UserError, match=r"DISTILL.UNLABELED_WEIGHT is 0.0: want a number above 0"):
        config(STUDENT, "DISTILL.UNLABELED_WEIGHT", "0.0")


def test_batches_hold_both_kinds(teacher_keys):
    keys = [*teacher_keys, "DATASETS.TRAIN", "['train[:2]']", "DATASETS.UNLABELED", "['train[2:]', 'val']"]
    samples = next(
        iter(training_batches(config(STUDENT, *keys, "SOLVER.UNLABELED_IMS_PER_BATCH", "3"))(RunPosition(0)))
    )
    assert ["sem_seg" in sample for sample in samples] == [True, True, False, False, False]
    assert all(sample["image"].shape == (3, 64, 64) for sample in samples)


@pytest.mark.parametrize("train", ["['train[:2]']", "[]"])
def test_one_more_split_trains_with_images_without_labels(teacher_keys, tmp_path, train):
    keys = [*SHORT, *teacher_keys, "DATASETS.TRAIN", train, "DATASETS.UNLABELED", "['train']"]
    densedist("train", "seg", "--config-file", str(STUDENT), "OUTPUT_DIR", str(tmp_path), *keys)
    lines = map(json.loads, (tmp_path / "metrics.json").read_text().splitlines())
    line = next(line for line in lines if "loss_dist" in line)  # shares of the gradient have a line of their own
    assert line["loss_dist"] > 0
    assert (line["loss_ce"] > 0) == (train != "[]")


def test_mistakes_end_in_one_line(tmp_path, capsys):
    for overrides, message in (
        (["DATASETS.UNLABELED", "['train']"], "DATASETS.UNLABELED is set, but there is no teacher"),
        (["DATASETS.UNLABELED", "['trian']"], "DATASETS.UNLABELED: there is no folder"),
        (["DATASETS.TRAIN", "[]"], "DATASETS.TRAIN is empty"),
    ):
        with pytest.raises(SystemExit) as stop:
            densedist("train", "seg", "--config-file", str(STUDENT), "OUTPUT_DIR", str(tmp_path), *SHORT, *overrides)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
