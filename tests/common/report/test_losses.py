"""Losses in words, and where the ticks of a count are."""

import pytest
from matplotlib.figure import Figure

from densedist.common.report.history import Point
from densedist.common.report.losses import in_words
from densedist.common.report.plots import curves, whole_ticks
from densedist.det.task import TASK as DET
from densedist.seg.task import TASK as SEG


@pytest.mark.parametrize(
    ("task", "name", "words"),
    [
        (SEG, "total_loss", "sum of all"),
        (SEG, "loss_ce", "cross entropy"),
        (SEG, "loss_ce_aux", "cross entropy, auxiliary head"),
        (SEG, "loss_dist", "distillation: DIST"),
        (DET, "loss_rpn_cls", "proposals: object or not"),
        (DET, "loss_box_reg_stage0", "boxes, stage 1"),
        (DET, "loss_dist_unlabeled", "distillation: DIST, images without labels"),
        (DET, "loss_mask", "masks"),
        (DET, "loss_mask_distill", "distillation: MASK"),
        (DET, "loss_of_a_stranger", "of_a_stranger"),
    ],
)
def test_losses_in_words(task, name, words):
    assert in_words(name, task.losses) == words


@pytest.mark.parametrize("most", [1, 3, 7, 140, 100_000])
def test_ticks_of_counts_are_whole(most):
    axis = Figure().subplots()
    axis.plot([0, most], [0, 1])
    whole_ticks(axis.xaxis)
    assert all(tick == round(tick) for tick in axis.get_xticks())
    assert len(axis.get_xticks()) > 1


@pytest.mark.drawn
def test_curves_have_words_and_no_names_of_the_log():
    points = [Point(1, 0.1, 2.0), Point(3, 0.3, 1.0)]
    names = (
        "total_loss",
        "loss_ce",
        "loss_dist",
        "gradient/loss_ce",
        "gradient/loss_dist",
        "gradient_cosine",
        "sem_seg/mIoU",
    )
    drawn = curves(dict.fromkeys(names, points), "sem_seg/mIoU", SEG.losses)
    assert list(drawn)[:2] == ["losses", "each loss's share of the gradient, percent"]
    assert "mIoU, percent" in drawn
    text = "".join(drawn.values())
    assert text.count("cross entropy") == text.count("distillation: DIST") == 2
    assert not [name for name in names if f">{name}<" in text]
