"""PSEUDO_LABELS.COLOR_JITTER and ALBUMENTATIONS: the student sees the strong view, its teacher the weak one."""

from itertools import islice

import numpy as np
import pytest
import torch

from densedist.common.distill.views import StrongViews, build_strong
from densedist.common.errors import UserError
from densedist.common.losses import DISTLoss
from densedist.common.randomness import RunPosition, seeded
from densedist.seg.cache import fill_cache
from densedist.seg.loader import training_batches
from densedist.seg.models import build_trainee, read_config
from helpers.scenes import SMALL, STUDENT, config, save_teacher

JITTER = ["PSEUDO_LABELS.COLOR_JITTER", "[0.5, 0.4, 0.3, 0.1]"]
HOLES = ["PSEUDO_LABELS.ALBUMENTATIONS", "[{'CoarseDropout': {'p': 1.0}}, {'GaussianBlur': {'p': 0.5}}]"]
BARE = ["DATASETS.TRAIN", "['train[:4]']", "DATASETS.UNLABELED", "['train[4:]']"]


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def batches(cfg, count=1, start=0):
    return list(islice(training_batches(cfg)(RunPosition(3, start)), count))


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else True for name, value in one.items()
    )


def test_only_images_without_true_labels_have_two_views(teacher_keys):
    plain, strong = (batches(config(STUDENT, *teacher_keys, *BARE, *keys))[0] for keys in ([], [*JITTER, *HOLES]))
    assert ["sem_seg" in sample for sample in plain] == [True, True, False, False]
    for sample, before in zip(strong[:2], plain[:2], strict=True):
        assert same(sample, before)
    for sample, before in zip(strong[2:], plain[2:], strict=True):
        assert torch.equal(sample["teacher_image"], before["image"]), "of the same geometry"
        assert not torch.equal(sample["image"], before["image"])
        assert (sample["image"].dtype, sample["image"].shape) == (torch.uint8, before["image"].shape)


def test_labels_that_a_teacher_wrote_have_a_strong_view_and_stay():
    sample = {"image": torch.full((3, 8, 8), 100, dtype=torch.uint8), "sem_seg": torch.ones(8, 8, dtype=torch.int64)}
    augment = build_strong(config(STUDENT, *JITTER))
    with seeded(0):
        seen = StrongViews(lambda _: sample | {"pseudo_labeled": True}, augment, "sem_seg", two=False)(0)
        true = StrongViews(lambda _: sample | {}, augment, "sem_seg", two=False)(0)
    assert same(true, sample)
    assert torch.equal(seen["sem_seg"], sample["sem_seg"])
    assert (seen["image"] != 100).any()
    assert "teacher_image" not in seen, "no teacher looks"


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_the_strong_view_is_that_of_albumentations(channels):
    """Only saturation tells red from blue."""
    cfg = config(STUDENT, "PSEUDO_LABELS.COLOR_JITTER", "[0.0, 0.0, 1.0, 0.0]", "INPUT.FORMAT", channels)
    rgb = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 16, 16), np.uint8))
    turn = (lambda x: x.flip(0)) if channels == "BGR" else (lambda x: x)
    with seeded(1):
        seen = StrongViews(lambda _: {"image": turn(rgb)}, build_strong(cfg), "sem_seg", False)(0)["image"]
    with seeded(1):
        wanted = build_strong(config(STUDENT, *cfg_of_rgb()))({"image": rgb.permute(1, 2, 0).numpy()})["image"]
    assert np.array_equal(turn(seen).permute(1, 2, 0).numpy(), wanted)


def cfg_of_rgb():
    return ["PSEUDO_LABELS.COLOR_JITTER", "[0.0, 0.0, 1.0, 0.0]", "INPUT.FORMAT", "RGB"]


def test_a_live_teacher_sees_the_weak_view(teacher_keys):
    cfg = config(STUDENT, *teacher_keys, *BARE, *JITTER, *HOLES)
    torch.manual_seed(0)
    model = build_trainee(cfg).model.train()
    model.network.eval()
    batch = batches(cfg)[0]
    teacher = model.distillation.teacher
    strong = [sample["image"] for sample in batch]
    weak = [sample.get("teacher_image", sample["image"]) for sample in batch]
    with torch.no_grad():
        ours = model.network(model.network.preprocess(strong))["cls_logits"]
    theirs, other = (teacher.live_maps(images)["cls_logits"] for images in (weak, strong))
    loss = model(batch)["loss_dist"]
    torch.testing.assert_close(loss, DISTLoss()(ours, theirs), rtol=1e-5, atol=0)
    assert (loss - DISTLoss()(ours, other)).abs() > 1e-4


def test_a_cached_teacher_has_seen_the_image_before(teacher_keys, tmp_path):
    cached = [*teacher_keys, *BARE, "DISTILL.TEACHER.CACHE", tmp_path / "kept"]
    fill_cache(cfg := config(STUDENT, *cached), build_trainee(cfg))
    plain, strong = (batches(config(STUDENT, *cached, *keys))[0] for keys in ([], [*JITTER, *HOLES]))
    for sample, before in zip(strong, plain, strict=True):
        assert "teacher_image" not in sample
        assert torch.equal(sample["coordinates"].nan_to_num(), before["coordinates"].nan_to_num())
        assert all(torch.equal(x, before["teacher"][name]) for name, x in sample["teacher"].items())
    assert not torch.equal(strong[2]["image"], plain[2]["image"])


def test_a_run_that_goes_on_sees_the_same(teacher_keys):
    keys = [*teacher_keys, *BARE, *JITTER, *HOLES]
    whole = batches(config(STUDENT, *keys), 3)
    for workers in (0, 2):
        later = batches(config(STUDENT, *keys, "DATALOADER.NUM_WORKERS", workers), 1, start=2)[0]
        assert all(same(sample, wanted) for sample, wanted in zip(later, whole[2], strict=True))


def test_the_plan_names_them():
    notes = build_trainee(config(STUDENT, *JITTER, *HOLES)).notes
    assert notes["strong"].startswith("ColorJitter, CoarseDropout, GaussianBlur in images without true labels")
    notes = build_trainee(config(STUDENT, "PSEUDO_LABELS.CUTMIX", 0.5)).notes
    assert notes == {"strong": "CUTMIX in 50 % of images without true labels"}
    assert build_trainee(config(STUDENT)).notes == {}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"Rotate": {}}, "Rotate moves pixels: name it in INPUT.ALBUMENTATIONS, which student and teacher see"),
        ({"HorizontalFlip": {}}, "HorizontalFlip moves pixels: "),
        ({"CoarseDropout": {"fill_mask": 255}}, "CoarseDropout moves pixels: "),
        ({"OneOf": {"transforms": [{"ToGray": {}}, {"Affine": {}}]}}, "Affine moves pixels: "),
        ({"Resize": {"height": 8, "width": 8}}, "Resize moves pixels: "),
        ({"Normalize": {}}, "Normalize gives pixels of float32"),
        ({"FDA": {}}, "FDA cannot be applied to an image alone: "),
        ({"ToGrey": {}}, "ToGrey is not a transform of albumentations"),
    ],
)
def test_what_is_refused(entry, message):
    with pytest.raises(UserError) as error:
        read_config(str(STUDENT), [*SMALL, "PSEUDO_LABELS.ALBUMENTATIONS", str([entry])])
    assert str(error.value).startswith(f"PSEUDO_LABELS.ALBUMENTATIONS: {message}")
    assert "\n" not in str(error.value)


def test_color_jitter_that_means_nothing():
    with pytest.raises(UserError, match=r"^PSEUDO_LABELS.COLOR_JITTER is \[.*: want \[brightness, contrast"):
        config(STUDENT, "PSEUDO_LABELS.COLOR_JITTER", "[0.5]")
