"""k processes with b images each give the losses, the gradients and the scores of one process with k·b images."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.structures import BitMasks
from detectron2.utils.events import EventStorage
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel

from densedist.common.engine.train import evaluate as evaluate_weights
from densedist.seg.models import build_segmenter
from densedist.tasks import task_named
from helpers import scenes, tiny
from helpers.processes import run_processes

ALL = ["KD", "MIMIC", "RKD", "CWD", "PKD", "ATTENTION", "CIRKD"]
ALL = ["DISTILL.SYNC", "True", *(word for loss in ALL for word in (f"DISTILL.{loss}.WEIGHT", "1.0"))]
# Every RoI and anchor counts, so that nothing depends on chance; the processes have different numbers of RoIs.
EVERY_ROI = [
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "1000", "MODEL.ROI_HEADS.POSITIVE_FRACTION", "1.0"),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "100000", "MODEL.RPN.POSITIVE_FRACTION", "1.0"),
]
# Detectron2 divides these by the number of RoIs on each process.
OF_DETECTRON2 = {"loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc", "loss_mask"}
BOXES = [word for loss in ("MGD", "BOX", "FGD") for word in (f"DISTILL.{loss}.WEIGHT", "1.0")]
BOXES += ["DISTILL.MGD.MASKED", "0.0"]  # which places it hides is chance
CROSSED = ["DISTILL.CROSSKD.WEIGHT", "1.0", "DISTILL.CROSSKD.POSITION", "1"]
RCNN = [*BOXES, *(word for loss in ("RPN", "MASK", "DKD") for word in (f"DISTILL.{loss}.WEIGHT", "1.0"))]
RCNN += ["MODEL.MASK_ON", "True", "DATASETS.TRAIN", "('digits_train',)"]
CELLS = ["DISTILL.RKD.SAMPLES", "cells", "DISTILL.DKD.WEIGHT", "1.0"]


def det_model(file, keys):
    model = tiny.build_student(tiny.config(file, *keys))
    if isinstance(model, RetinaNet):  # its first logits are all alike, and their correlations rounding in float32
        model.double().distillation.teacher.model.double()
        model.distillation.teacher.precision = torch.float64
    images = [image for seed in range(4) for image in tiny.batch(1, seed)]  # of one size
    for image in images:
        image["instances"].gt_masks = BitMasks(torch.ones(3, *image["image"].shape[1:], dtype=torch.bool))
    return model, images


def seg_model(file, keys):
    return build_segmenter(scenes.config(file, *keys)), scenes.batch(4)


def losses_and_gradients(model, images):
    """Of all losses by name, and of the sum of those that have to agree; batch norm and dropout are frozen."""
    for layer in model.modules():
        if isinstance(layer, (_BatchNorm, _DropoutNd)):
            layer.eval()
    with EventStorage():
        losses = model(images)
    sum(loss for name, loss in losses.items() if name not in OF_DETECTRON2).backward()
    module = model.module if isinstance(model, DistributedDataParallel) else model
    gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return {name: loss.detach() for name, loss in losses.items()}, gradients


def compare(rank, count, make, file, keys, alone):
    torch.manual_seed(0)
    model, images = make(file, keys)
    model.train()
    share = len(images) // count
    parallel = DistributedDataParallel(model, find_unused_parameters=True)
    losses, gradients = losses_and_gradients(parallel, images[rank * share :][:share])
    wanted_losses, wanted_gradients = torch.load(alone, weights_only=True)
    assert set(losses) == set(wanted_losses)
    for name, loss in losses.items():
        torch.distributed.all_reduce(loss)
        if name not in OF_DETECTRON2:
            assert (loss / count).item() == pytest.approx(wanted_losses[name].item(), rel=1e-5, abs=1e-7), name
    norm = torch.stack([g.norm() for g in wanted_gradients.values()]).norm()
    for name, wanted in wanted_gradients.items():
        assert (gradients[name] - wanted).norm() <= 1e-5 * norm, name


@pytest.mark.parametrize(
    ("make", "file", "keys", "count"),
    [
        (det_model, tiny.STUDENT, [*EVERY_ROI, *RCNN], 2),
        (det_model, tiny.DIGITS / "retinanet_r10_quarter.yaml", [*BOXES, *CROSSED], 4),
        (seg_model, scenes.STUDENT, [*CELLS, "DISTILL.IGNORED_PIXELS", "False"], 2),
        (seg_model, scenes.STUDENT, [*CELLS, "DISTILL.IGNORED_PIXELS", "False"], 4),
    ],
    ids=["Faster R-CNN", "RetinaNet", "PSPNet on two", "PSPNet on four"],
)
def test_losses_and_gradients(make, file, keys, count, tmp_path):
    helper = scenes if make is seg_model else tiny
    teacher = tiny.DIGITS / "retinanet_r10t.yaml" if "retinanet" in str(file) else helper.TEACHER
    keys = [*keys, *ALL, *helper.save_teacher(tmp_path / "teacher", file=teacher)]
    torch.manual_seed(0)
    model, images = make(file, keys)
    torch.save(losses_and_gradients(model.train(), images), tmp_path / "alone.pth")
    run_processes(count, compare, make, file, keys, tmp_path / "alone.pth")


def evaluate(rank, count, name, keys, weights):
    task, file = task_named(name), {"det": tiny.STUDENT, "seg": scenes.STUDENT}[name]
    evaluate_weights(task.load_config(str(file), keys), task, str(weights), "--weights")


@pytest.mark.parametrize("task", ["det", "seg"])
def test_evaluation_counts_every_image_once(task, tmp_path):
    if task == "det":
        keys = [*tiny.SMALL, "DATASETS.TEST", "('digits_train', 'digits_test')"]
        model = tiny.build_student(tiny.config(tiny.STUDENT))
        torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=1.0)
    else:
        keys = [*scenes.SMALL, "DATASETS.TEST", "['train[:7]']"]
        model = build_segmenter(scenes.config(scenes.STUDENT)).network.smp
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    results = []
    for count in (1, 3):
        output = tmp_path / str(count)
        run_processes(count, evaluate, task, [*keys, "OUTPUT_DIR", str(output)], tmp_path / "weights.pth")
        results.append(json.loads(Path(output, "results.json").read_text()))
    assert results[0] == results[1]
    assert results[0]
