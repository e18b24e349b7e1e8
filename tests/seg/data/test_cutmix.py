"""PSEUDO_LABELS.CUTMIX: a rectangle of another image, with its label and what the teacher says of it."""

from itertools import islice

import numpy as np
import pytest
import torch

from densedist.common.errors import UserError
from densedist.common.losses import DISTLoss
from densedist.common.randomness import RunPosition, seeded
from densedist.seg.cache import fill_cache
from densedist.seg.data.cutmix import BOX, PARTNER, Boxes, mix, mix_maps
from densedist.seg.loader import training_batches
from densedist.seg.models import build_trainee
from densedist.seg.networks.network import build_network
from densedist.seg.teacher.kept import KeptLogits
from helpers.scenes import STUDENT, config, save_teacher

CUTMIX = ["PSEUDO_LABELS.CUTMIX", 1.0]
BARE = ["DATASETS.TRAIN", "['train[:4]']", "DATASETS.UNLABELED", "['train[4:]']", "SOLVER.UNLABELED_IMS_PER_BATCH", 3]
SIZE = (12, 20)


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def batches(cfg, count=1, start=0):
    return list(islice(training_batches(cfg)(RunPosition(3, start)), count))


def sample(number, box, **more):
    """All of it says which image it is of."""
    image = torch.full((3, *SIZE), number, dtype=torch.uint8)
    return {"image": image, "sem_seg": torch.full(SIZE, number), "pseudo_labeled": True, BOX: box} | more


def shown(box, inside, outside):
    wanted = torch.full(SIZE, outside)
    wanted[box[0] : box[2], box[1] : box[3]] = inside
    return wanted


def test_a_rectangle_is_that_of_the_next_image_as_it_was_before():
    boxes = [(2, 3, 7, 19), (0, 0, 12, 10), None]
    views = [{"teacher_image": torch.full((3, *SIZE), 10 * n, dtype=torch.uint8)} for n in range(3)]
    weights = [{"weights": torch.full(SIZE, float(n))} for n in range(3)]
    before = [sample(n, boxes[n], **views[n], **weights[n]) for n in range(3)]
    after = mix(before)
    for n, box in enumerate(boxes[:2]):
        wanted = shown(box, inside=n + 1, outside=n)
        assert torch.equal(after[n]["sem_seg"], wanted)
        assert torch.equal(after[n]["image"], wanted.to(torch.uint8).expand(3, -1, -1))
        assert torch.equal(after[n]["teacher_image"], 10 * wanted.to(torch.uint8).expand(3, -1, -1))
        assert torch.equal(after[n]["weights"], wanted.float())
    assert after[2] is before[2]
    assert (before[0]["sem_seg"] == 0).all(), "what others take a part of stays"


def test_images_with_true_labels_are_no_part_of_it():
    true = {"image": torch.zeros(3, *SIZE, dtype=torch.uint8), "sem_seg": torch.zeros(SIZE)}
    bare = [{"image": torch.full((3, *SIZE), n, dtype=torch.uint8), BOX: (0, 0, 12, 20)} for n in (1, 2)]
    after = mix([sample(7, (0, 0, 12, 20)), true, *bare])
    assert [int(x["image"][0, 0, 0]) for x in after] == [7, 0, 2, 1], "nor are labeled and unlabeled ones mixed"
    assert [x.get(PARTNER) for x in after] == [None, None, 1, -1]


def test_rectangles_are_of_any_share_of_the_area():
    image = torch.zeros(3, 600, 1000)
    mapper = Boxes(lambda _: {"image": image}, 0.5)
    with seeded(0):
        found = [mapper(None)[BOX] for _ in range(8000)]
    boxes = np.array([box for box in found if box])
    assert 0.47 < len(boxes) / 8000 < 0.53
    top, left, bottom, right = boxes.T
    assert 0 <= top.min() < bottom.max() <= 600
    assert 0 <= left.min() < right.max() <= 1000
    inside = boxes[(top > 0) & (left > 0) & (bottom < 600) & (right < 1000)]
    height, width = (inside[:, 2] - inside[:, 0]) / 600, (inside[:, 3] - inside[:, 1]) / 1000
    assert abs(height - width).max() < 0.003, "of the image's aspect ratio"
    # Before they are clipped: of a side s, the part that has its center s / 2 or more from both borders is 1 - s.
    share, cut = np.linspace(0.005, 0.995, 100), 1 - np.sqrt(np.linspace(0.005, 0.995, 100))
    assert abs((height * width).mean() - np.average(share, weights=cut**2)) < 0.03
    assert (Boxes(lambda _: {"image": image}, 0.0)(None))[BOX] is None


def test_a_live_teacher_sees_the_same_rectangle(teacher_keys):
    """And sees it without the strong colors."""
    jitter = ["PSEUDO_LABELS.COLOR_JITTER", "[0.5, 0.4, 0.3, 0.1]"]
    cfg = config(STUDENT, *teacher_keys, *BARE, *CUTMIX, *jitter)
    batch, before = (batches(config(STUDENT, *teacher_keys, *BARE, *keys))[0] for keys in ([*CUTMIX, *jitter], []))
    for number, one in enumerate(batch):
        box, partner = one.get(BOX), one.get(PARTNER)
        assert (partner is not None) == ("sem_seg" not in one)
        if partner is not None:
            wanted = before[number]["image"].clone()
            part = (..., slice(box[0], box[2]), slice(box[1], box[3]))
            wanted[part] = before[number + partner]["image"][part]
            assert torch.equal(one["teacher_image"], wanted)
    torch.manual_seed(0)
    model = build_trainee(cfg).model.train()
    model.network.eval()
    weak = [one.get("teacher_image", one["image"]) for one in batch]
    with torch.no_grad():
        ours = model.network(model.network.preprocess([one["image"] for one in batch]))["cls_logits"]
    theirs = model.distillation.teacher.live_maps(weak)["cls_logits"]
    torch.testing.assert_close(model(batch)["loss_dist"], DISTLoss()(ours, theirs), rtol=1e-5, atol=0)


def test_what_a_cached_teacher_gives_is_that_of_the_rectangles_image(teacher_keys, tmp_path):
    keys = [*teacher_keys, *BARE, "DISTILL.TEACHER.CACHE", tmp_path / "kept"]
    fill_cache(cfg := config(STUDENT, *keys), build_trainee(cfg))
    mixed, before = (batches(config(STUDENT, *keys, *more))[0] for more in (CUTMIX, []))
    teacher, student = KeptLogits(build_network(config(STUDENT)).eval()), {"cls_logits": torch.zeros(5, 11, 16, 16)}
    (maps, known), (own, own_known) = (teacher.begin(batch).at(student, (64, 64)) for batch in (mixed, before))
    pixel = torch.linspace(0, 63, 16).round()
    for number, one in enumerate(mixed):
        top, left, bottom, right = one.get(BOX) or (0, 0, 0, 0)
        rows, columns = (pixel >= top) & (pixel < bottom), (pixel >= left) & (pixel < right)
        inside, other = rows[:, None] & columns, number + one.get(PARTNER, 0)
        for found, alone in ((maps, own), (known, own_known)):
            wanted = alone["cls_logits"][other].where(inside, alone["cls_logits"][number])
            assert torch.equal(found["cls_logits"][number], wanted)
        assert inside.any() == ("sem_seg" not in one)


def test_places_of_maps_are_where_pixels_are():
    """A map as fine as the image is mixed as the image is."""
    samples = mix([sample(n, (2, 3, 7, 19)) for n in range(2)])
    maps = mix_maps([torch.full((1, *SIZE), float(n)) for n in range(2)], samples, SIZE)
    for one, of_one in zip(samples, maps, strict=True):
        assert torch.equal(of_one[0], one["sem_seg"].float())


def test_a_run_that_goes_on_sees_the_same(teacher_keys):
    keys = [*teacher_keys, *BARE, *CUTMIX]
    whole = batches(config(STUDENT, *keys), 3)
    for workers in (0, 2):
        later = batches(config(STUDENT, *keys, "DATALOADER.NUM_WORKERS", workers), 1, start=2)[0]
        assert any(PARTNER in one for one in later)
        for one, wanted in zip(later, whole[2], strict=True):
            assert one.keys() == wanted.keys()
            assert one.get(BOX) == wanted.get(BOX)
            assert torch.equal(one["image"], wanted["image"])


def test_mistakes_end_in_one_line(teacher_keys):
    with pytest.raises(UserError, match=r"^PSEUDO_LABELS.CUTMIX is 1.5: want a probability, 0 to 1$"):
        config(STUDENT, "PSEUDO_LABELS.CUTMIX", 1.5)
    alone = config(STUDENT, *teacher_keys, *BARE, *CUTMIX, "SOLVER.UNLABELED_IMS_PER_BATCH", 1)
    with pytest.raises(UserError, match=r"SOLVER.UNLABELED_IMS_PER_BATCH gives a process one image at a time: raise"):
        batches(alone)


@pytest.mark.parametrize(
    "keys",
    [
        CUTMIX,
        ["PSEUDO_LABELS.COLOR_JITTER", "[0.5, 0.4, 0.3, 0.1]"],
        ["PSEUDO_LABELS.ALBUMENTATIONS", "[{'ToGray': {}}]"],
    ],
)
def test_keys_for_images_that_are_not_there(keys):
    with pytest.raises(UserError, match=rf"^{keys[0]} is set, but DATASETS.PSEUDO_LABELED and UNLABELED are empty: "):
        batches(config(STUDENT, *keys))
