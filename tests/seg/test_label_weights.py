"""Labels that a teacher wrote count by its probabilities: read, moved with the image, and on the gradient."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from densedist.common.data.confidence import Confidence
from densedist.common.data.sides import MARK
from densedist.common.errors import UserError
from densedist.common.modules import record
from densedist.common.randomness import RunPosition
from densedist.seg.data.frames import SCORES
from densedist.seg.data.reading import Reader
from densedist.seg.data.transforms import TrainingTransform
from densedist.seg.datasets import contents, pseudo_labeled_frames
from densedist.seg.labels import IGNORE, Classes
from densedist.seg.loader import training_batches
from densedist.seg.models import build_segmenter
from densedist.seg.networks.resampling import resize
from helpers.scenes import STUDENT, batch, config, write_tree

NAMES = [{"name": str(n), "ids": [n + 7], "color": [n, n, n]} for n in range(3)]
DATA = ["MODEL.CLASS_WEIGHTS", "[]", "DATASETS.CLASSES", NAMES, "DATASETS.IGNORED_IDS", "[0]", "DATASETS.TRAIN", "[]"]
SURE = ["PSEUDO_LABELS.CONFIDENCE", "score"]


def labels_of_a_teacher(folder, scores=True):
    """A folder as densedist label writes it: labels where a score is, so that both can be told apart after moving."""
    write_tree(folder, ids=(7, 8, 9))
    rng = np.random.default_rng(3)
    for file in (folder / "gtFine/train/town").iterdir():
        label = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        values = (label - 7) * 80 + rng.integers(0, 80, label.shape)  # whose hundreds say the label
        if scores:
            cv2.imwrite(str(file).replace("_labelIds", "_scores"), values.astype(np.uint8))
    return [*DATA, "DATASETS.PSEUDO_LABELED", f"['{folder}/train']"]


def test_pixels_learn_as_from_an_explicitly_weighted_cross_entropy():
    """In a batch of true labels and a teacher's, at both heads."""
    keys = [*SURE, "PSEUDO_LABELS.WEIGHT", "0.5", "MODEL.AUX_HEAD.ENABLED", "True", "MODEL.CLASS_WEIGHTS", "[]"]
    torch.manual_seed(0)
    model = build_segmenter(config(STUDENT, *keys)).double().train()
    model.network.eval()
    plain = build_segmenter(config(STUDENT, *keys[4:])).double().train()
    plain.load_state_dict(model.state_dict())
    plain.network.eval()
    true, pseudo = batch(2)
    scores = torch.randint(0, 256, (64, 64), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    inputs = [true, pseudo | {MARK: True, SCORES: scores}]
    with record(model.network, lambda _, output: output) as seen:
        losses = model(inputs)
    assert losses == plain(inputs)
    labels = torch.stack([x["sem_seg"] for x in inputs])
    weights = torch.stack([torch.ones(64, 64), 0.5 * scores.float() / 255]).double()
    for name, loss, factor in (("cls_logits", "loss_ce", 1.0), ("aux_logits", "loss_ce_aux", 0.4)):
        given = seen[0][name]
        # The model widens its logits to float32.
        each = F.cross_entropy(resize(given, (64, 64)), labels, ignore_index=IGNORE, reduction="none")
        by_hand = factor * (weights * each).sum() / (labels != IGNORE).sum()
        (wanted,) = torch.autograd.grad(by_hand, given, retain_graph=True)
        (found,) = torch.autograd.grad(losses[loss], given, retain_graph=True)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-9)


def test_labels_without_scores_and_weight_learn_as_true_ones():
    torch.manual_seed(0)
    model = build_segmenter(config(STUDENT)).train()
    model.network.eval()
    gradients = []
    for inputs in (batch(2), [x | {MARK: True} for x in batch(2)]):
        model.zero_grad()
        sum(model(inputs).values()).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("cached", [False, True])
def test_scores_move_with_the_labels(tmp_path, cached):
    """Through scale, crop and mirror; classes that a mirror swaps keep their scores."""
    cfg = config(STUDENT, *labels_of_a_teacher(tmp_path), *SURE)
    swapped = [1, 0, 2]
    transform = TrainingTransform([0.5, 1.0, 2.0], (48, 48), True, (0, 0, 0), mirrored_classes=swapped)
    read = Reader(Classes.of(cfg), "RGB", None if cached else transform, Confidence.of(cfg))
    seen = set()
    for seed in range(24):
        np.random.seed(seed)
        frame = pseudo_labeled_frames(cfg)[seed % 2]
        if cached:
            _, label, _ = transform.with_coordinates(*read.read(frame))
            labels, scores = label & 255, label >> 8
        else:
            sample = read(frame)
            labels, scores = sample["sem_seg"].numpy(), sample[SCORES].numpy()
        counts = labels != IGNORE
        by_score = scores[counts] // 80
        straight = np.array_equal(by_score, labels[counts])
        assert straight or np.array_equal(np.array(swapped)[by_score], labels[counts])
        seen.add(straight)
        assert counts.any()
    assert seen == {True, False}


def test_pixels_of_too_low_a_score_have_no_label(tmp_path):
    keys = labels_of_a_teacher(tmp_path)
    cfg = config(STUDENT, *keys, "PSEUDO_LABELS.MIN_SCORE", "0.5", "INPUT.SCALES", "[1.0]", "INPUT.RANDOM_FLIP", "none")
    frame = pseudo_labeled_frames(cfg)[0]
    scores = cv2.imread(frame[SCORES], cv2.IMREAD_UNCHANGED)
    whole = cv2.imread(frame["label"], cv2.IMREAD_UNCHANGED) - 7
    read = Reader(Classes.of(cfg), "RGB", confidence=Confidence.of(cfg))
    wanted = np.where(scores >= 127.5, whole, IGNORE)
    np.testing.assert_array_equal(read(frame)["sem_seg"].numpy(), wanted)
    np.testing.assert_array_equal(read.labels(frame), wanted)
    assert SCORES not in read(frame)
    samples = next(iter(training_batches(cfg)(RunPosition(0))))
    assert all(sample[MARK] and SCORES not in sample for sample in samples)


def test_batches_have_scores_where_they_count(tmp_path):
    keys = labels_of_a_teacher(tmp_path / "labels")
    write_tree(tmp_path / "true", ids=(7, 8, 9))
    true = ["DATASETS.ROOT", tmp_path / "true", "DATASETS.TRAIN", "['train']", "PSEUDO_LABELS.SHARE", "0.5"]
    cfg = config(STUDENT, *keys, *true, *SURE)
    samples = next(iter(training_batches(cfg)(RunPosition(0))))
    assert [SCORES in sample for sample in samples] == [False, True]
    assert samples[1][SCORES].shape == samples[1]["sem_seg"].shape
    assert samples[1][SCORES].dtype == torch.uint8
    model = build_segmenter(cfg).train()
    sum(model(samples).values()).backward()


def test_other_scores_are_another_content(tmp_path):
    keys = labels_of_a_teacher(tmp_path)
    files = contents(config(STUDENT, *keys, *SURE), "PSEUDO_LABELED")
    assert sum(str(file).endswith("_scores.png") for file in files) == 2
    assert not any(str(file).endswith("_scores.png") for file in contents(config(STUDENT, *keys), "PSEUDO_LABELED"))


@pytest.mark.parametrize(
    ("key", "value", "asked"),
    [("CONFIDENCE", "score", "CONFIDENCE is score"), ("MIN_SCORE", "0.5", "MIN_SCORE is 0.5")],
)
def test_labels_of_earlier_folders_have_no_scores(tmp_path, key, value, asked):
    keys = labels_of_a_teacher(tmp_path, scores=False)
    assert len(pseudo_labeled_frames(config(STUDENT, *keys))) == 2
    with pytest.raises(UserError) as refused:
        pseudo_labeled_frames(config(STUDENT, *keys, f"PSEUDO_LABELS.{key}", value))
    label = f"{tmp_path}/gtFine/train/town/town_000000_000000_gtFine"
    assert str(refused.value) == (
        f"DATASETS.PSEUDO_LABELED: PSEUDO_LABELS.{asked}, but {label}_labelIds.png has no scores {label}_scores.png: "
        "let the teacher write the labels again, or set it to its default"
    )


def test_wrong_values_are_refused():
    for key, value, wanted in (
        ("CONFIDENCE", "probability", "PSEUDO_LABELS.CONFIDENCE is probability: want none or score"),
        ("MIN_SCORE", "1.5", "PSEUDO_LABELS.MIN_SCORE is 1.5: want a number from 0 to 1"),
    ):
        with pytest.raises(UserError, match=wanted):
            config(STUDENT, f"PSEUDO_LABELS.{key}", value)
