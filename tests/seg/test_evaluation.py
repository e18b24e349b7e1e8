"""Counts and scores against cityscapesscripts' own evaluation, and by hand."""

import math

import cv2
import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling
from cityscapesscripts.helpers.labels import labels as LABELS
from matplotlib.axes import Axes

from densedist.seg import drawing
from densedist.seg.drawing import draw_confusion, overlay
from densedist.seg.evaluation import Evaluator, confusion_matrix, scores
from densedist.seg.labels import Classes
from helpers.scenes import CONFIGS, config

CITYSCAPES = Classes.of(config(CONFIGS / "data" / "cityscapes.yaml"))


def label_maps(folder, count=12, absent=(14, 15), absent_everywhere=(16,)):
    """Truth with ignored regions and predictions as labelIds files; classes are missing here and there."""
    rng = np.random.default_rng(0)
    pairs = []
    usable = [i for i in range(34) if i not in CITYSCAPES.label_ids[list(absent_everywhere)]]
    predictable = [i for i in CITYSCAPES.label_ids if i in usable]
    for index in range(count):
        here = [i for i in usable if i not in CITYSCAPES.label_ids[list(absent)] or index % 2]
        truth = np.kron(rng.choice(here, (16, 32)), np.ones((4, 4))).astype(np.uint8)
        guess = np.kron(rng.choice(predictable, (16, 32)), np.ones((4, 4))).astype(np.uint8)
        known = np.isin(truth, CITYSCAPES.label_ids) & (rng.random(truth.shape) < 0.6)
        guess[known] = truth[known]
        files = [folder / f"{index}_{kind}.png" for kind in ("pred", "truth")]
        for file, image in zip(files, (guess, truth), strict=True):
            cv2.imwrite(str(file), image)
        pairs.append(files)
    return pairs


def test_counts_and_scores_equal_those_of_cityscapesscripts(tmp_path, monkeypatch, capsys):
    pairs = label_maps(tmp_path)
    official = evalPixelLevelSemanticLabeling
    arguments = official.args
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # it uses the old name, which NumPy 2.4 dropped
    monkeypatch.setattr(arguments, "evalInstLevelScore", False)
    monkeypatch.setattr(arguments, "evalPixelAccuracy", True)
    monkeypatch.setattr(arguments, "JSONOutput", False)
    monkeypatch.setattr(arguments, "quiet", True)
    wanted = official.evaluateImgLists([str(p) for p, _ in pairs], [str(t) for _, t in pairs], arguments)

    total = torch.zeros(19, 19, dtype=torch.int64)
    for guess, truth in pairs:
        ours = [CITYSCAPES.train_ids[cv2.imread(str(f), cv2.IMREAD_UNCHANGED)] for f in (truth, guess)]
        total += confusion_matrix(*map(torch.from_numpy, ours), 19)
    ids = CITYSCAPES.label_ids
    assert np.array_equal(total.numpy(), np.asarray(wanted["confMatrix"])[np.ix_(ids, ids)])
    result = scores(total, CITYSCAPES.names)
    for name in CITYSCAPES.names:
        theirs = wanted["classScores"][name]
        assert math.isnan(theirs) == math.isnan(result[f"IoU-{name}"])
        if not math.isnan(theirs):
            assert result[f"IoU-{name}"] == pytest.approx(100 * theirs, rel=1e-12)
    assert math.isnan(result["IoU-train"])  # the class that is absent everywhere
    assert result["mIoU"] == pytest.approx(100 * wanted["averageScoreClasses"], rel=1e-12)


def test_the_official_labels_are_those_that_are_ignored():
    ignored = [label.id for label in LABELS if label.ignoreInEval and label.id >= 0]
    assert (CITYSCAPES.train_ids[ignored] == 255).all()


def test_scores_by_hand():
    truth = torch.tensor([[0, 0, 1, 1], [1, 255, 255, 2]])
    guess = torch.tensor([[0, 1, 1, 1], [0, 0, 2, 2]])
    result = scores(confusion_matrix(truth, guess, 4), ["a", "b", "c", "d"])
    assert result["IoU-a"] == pytest.approx(100 / 3)
    assert result["IoU-b"] == pytest.approx(50)
    assert result["IoU-c"] == 100
    assert math.isnan(result["IoU-d"])
    assert result["mIoU"] == pytest.approx((100 / 3 + 50 + 100) / 3)
    assert result["mACC"] == pytest.approx((50 + 200 / 3 + 100) / 3)
    assert result["pACC"] == pytest.approx(100 * 4 / 6)


def test_perfect_prediction_scores_100_whatever_is_ignored():
    truth = torch.randint(0, 19, (2, 30, 30))
    guess = truth.clone()
    truth[:, :10] = 255
    assert scores(confusion_matrix(truth, guess, 19), CITYSCAPES.names)["mIoU"] == 100


def test_evaluator_writes_predictions_as_label_ids(tmp_path):
    evaluator = Evaluator(CITYSCAPES, tmp_path, save_label_ids=True)
    truth = torch.tensor([[0, 1], [18, 255]])
    image = torch.full((3, 2, 2), 100, dtype=torch.uint8)
    prediction = torch.nn.functional.one_hot(torch.tensor([[0, 1], [18, 2]]), 19).permute(2, 0, 1)
    evaluator.process([{"name": "x", "image": image, "sem_seg": truth}], [{"sem_seg": prediction}])
    written = cv2.imread(str(tmp_path / "labelIds/x_pred_labelIds.png"), cv2.IMREAD_UNCHANGED)
    assert written.tolist() == [[7, 8], [33, 11]]
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == 100
    assert (tmp_path / "confusion.png").stat().st_size > 0


def test_nothing_is_drawn_on_the_way_of_a_run(tmp_path):
    evaluator = Evaluator(CITYSCAPES, tmp_path, draws=False)
    truth = torch.tensor([[0, 1], [18, 255]])
    prediction = torch.nn.functional.one_hot(torch.tensor([[0, 1], [18, 2]]), 19).permute(2, 0, 1)
    evaluator.process([{"name": "x", "sem_seg": truth}], [{"sem_seg": prediction}])
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == 100
    assert not list(tmp_path.iterdir())


def test_cells_have_numbers_where_they_are_not_too_many(tmp_path, monkeypatch):
    """Each is a piece of text, which takes a millisecond to draw."""
    written = []
    text = Axes.text
    monkeypatch.setattr(Axes, "text", lambda *args, **keys: written.append(args[3]) or text(*args, **keys))
    monkeypatch.setattr(drawing, "NUMBERED", 3)
    for count in (3, 4):
        draw_confusion(np.full((count, count), 5), [str(n) for n in range(count)], tmp_path / f"{count}.png")
        assert (tmp_path / f"{count}.png").stat().st_size > 0
    assert written == ["33"] * 9


def test_an_overlay_has_the_colors_of_the_classes_over_the_image():
    road = overlay(np.full((1, 1, 3), 100, np.uint8), np.zeros((1, 1), np.int64), CITYSCAPES.colors)[0, 0]
    assert road.tolist() == [round(0.4 * 100 + 0.6 * c) for c in (128, 64, 128)]


def test_images_without_labels_are_predicted_and_not_scored(tmp_path):
    evaluator = Evaluator(CITYSCAPES, tmp_path, save_label_ids=True)
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    evaluator.process([{"name": "x", "image": image}], [{"sem_seg": torch.rand(19, 2, 2)}])
    assert evaluator.evaluate() == {}
    assert (tmp_path / "labelIds/x_pred_labelIds.png").exists()
