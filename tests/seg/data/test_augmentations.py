"""INPUT.COLOR_JITTER and INPUT.ALBUMENTATIONS: what they do to image, label and places, and what is refused."""

import albumentations as A
import numpy as np
import pytest
import torch

from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition
from densedist.seg.data.augmentations import STRAIGHT, build_augmentations
from densedist.seg.data.transforms import GRID, training_transform
from densedist.seg.labels import IGNORE
from densedist.seg.loader import training_batches
from densedist.seg.models import build_trainee, read_config
from helpers.scenes import SMALL, STUDENT, save_teacher

SIZE = (48, 56)
STILL = ["INPUT.SCALES", "[1.0]", "INPUT.RANDOM_FLIP", "none"]
# Of every kind: color, geometry, holes, compositions, arguments that are lists.
MANY = [
    {"OneOf": {"transforms": [{"GaussNoise": {"std_range": [0.1, 0.2]}}, {"ToGray": {}}], "p": 0.9}},
    {"SomeOf": {"transforms": [{"Rotate": {"limit": 30}}, {"VerticalFlip": None}, {"CLAHE": {}}], "n": 2}},
    {"Sequential": {"transforms": [{"CoarseDropout": {"p": 0.7}}, {"RandomGamma": {}}]}},
]


def config(*keys, file=STUDENT):
    return read_config(str(file), [*SMALL, *map(str, keys)])


def albumentations(*entries):
    return ["INPUT.ALBUMENTATIONS", list(entries)]


def scene(size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return image, rng.integers(0, 11, size, dtype=np.uint8)


def augmented(cfg, seed=0, size=SIZE):
    np.random.seed(seed)
    return training_transform(cfg)(*scene(size))


def test_without_either_nothing_is_added():
    assert build_augmentations(config()) is None


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_color_jitter(channels):
    cfg = config("INPUT.COLOR_JITTER", "[0.5, 0.4, 0.3, 0.1]", "INPUT.FORMAT", channels, *STILL)
    image, label = augmented(cfg)
    before, kept = scene()
    assert np.array_equal(label[: SIZE[0], : SIZE[1]], kept)
    assert not np.array_equal(image[: SIZE[0], : SIZE[1]], before)
    color = [round(value) for value in cfg.MODEL.PIXEL_MEAN]
    assert (image[SIZE[0] :] == color).all(), "padding keeps its color"
    assert (image[:, SIZE[1] :] == color).all()
    assert (label[SIZE[0] :] == IGNORE).all()


def test_color_jitter_is_albumentations_in_rgb():
    """Only saturation tells red from blue: a gray made of 0.299 red and 0.114 blue."""
    gray = ["INPUT.COLOR_JITTER", "[0.0, 0.0, 1.0, 0.0]", *STILL]
    for seed in range(3):
        np.random.seed(seed)
        image, _ = scene()
        seen = build_augmentations(config(*gray))({"image": image})["image"]
        np.random.seed(seed)
        turned = np.ascontiguousarray(image[..., ::-1])
        other = build_augmentations(config(*gray, "INPUT.FORMAT", "BGR"))({"image": turned})["image"]
        assert np.array_equal(seen, other[..., ::-1])


def test_each_step_has_its_own_chance():
    """Four coins: as albumentations seeds them by itself they would all fall alike."""
    coins = [{"Affine": {"translate_px": {"x": shift, "y": 0}, "p": 0.5}} for shift in (1, 2, 4, 8)]
    augment = build_augmentations(config(*STILL, *albumentations(*coins)))
    shifts = set()
    for seed in range(100):
        np.random.seed(seed)
        image, label = scene()
        shifts.add(int((augment({"image": image, "mask": label})["mask"][0] == IGNORE).sum()))
    assert shifts == set(range(16))


@pytest.mark.parametrize("size", [(64, 64), (40, 90), (30, 20)])
def test_many(size):
    cfg = config(*albumentations(*MANY))
    for seed in range(10):
        image, label = augmented(cfg, seed, size)
        assert (image.dtype, label.dtype, image.shape, label.shape) == (np.uint8, np.uint8, (64, 64, 3), (64, 64))
        assert set(label.flat) <= {*range(11), IGNORE}
        again = augmented(cfg, seed, size)
        assert np.array_equal(image, again[0])
        assert np.array_equal(label, again[1])


def test_geometry_takes_the_label_along_and_ignores_what_comes_in():
    cfg = config(*STILL, *albumentations({"Affine": {"translate_px": {"x": 10, "y": 0}, "p": 1.0}}))
    (image, label), (before, kept) = augmented(cfg), scene()
    assert np.array_equal(label[: SIZE[0], 10 : SIZE[1]], kept[:, :-10])
    assert np.array_equal(image[: SIZE[0], 10 : SIZE[1]], before[:, :-10])
    assert (label[: SIZE[0], :10] == IGNORE).all()
    assert (image[: SIZE[0], :10] == [round(value) for value in cfg.MODEL.PIXEL_MEAN]).all()


def test_a_hole_leaves_the_label():
    cfg = config(*STILL, *albumentations({"CoarseDropout": {"p": 1.0}}))
    image, label = augmented(cfg)
    assert np.array_equal(label[: SIZE[0], : SIZE[1]], scene()[1])
    assert not np.array_equal(image[: SIZE[0], : SIZE[1]], scene()[0])


@pytest.mark.parametrize("kind", STRAIGHT, ids=lambda kind: kind.__name__)
def test_places_follow(kind):
    """An image that shows x and y: where places say that a pixel comes from, that is what is seen there."""
    y, x = np.indices((64, 64))
    image = np.stack([4 * x, 4 * y, 0 * x], 2).astype(np.uint8)
    transform = training_transform(config(*STILL, *albumentations({kind.__name__: {"p": 1.0}})))
    for seed in range(4):
        np.random.seed(seed)
        seen, label, places = transform.with_coordinates(image, np.zeros((64, 64), np.uint8))
        rows, columns = (np.linspace(0, 63, count).round().astype(int) for count in places.shape[1:])
        assert places.shape[1:] == (64 // GRID + 1,) * 2
        there = seen[np.ix_(rows, columns)][..., :2] / 4
        known = places.isfinite().all(0).numpy() & (label[np.ix_(rows, columns)] != IGNORE)
        assert known.mean() > 0.3
        difference = np.abs(there - places.numpy().transpose(1, 2, 0))[known]
        # The grid lies between pixels, and the border of what is turned is mixed with what is beyond.
        assert np.median(difference) < 0.8
        assert np.quantile(difference, 0.9) < 1.7


def test_a_run_that_goes_on_sees_the_same():
    cfg = config(
        "INPUT.COLOR_JITTER", "[0.5, 0.4, 0.3, 0.1]", *albumentations(*MANY), "DATASETS.TRAIN", "['train[:6]']"
    )
    start = iter(training_batches(cfg)(RunPosition(5)))
    batches = [next(start) for _ in range(3)]
    later = next(iter(training_batches(cfg)(RunPosition(5, 2))))
    for sample, wanted in zip(later, batches[2], strict=True):
        assert torch.equal(sample["image"], wanted["image"])
        assert torch.equal(sample["sem_seg"], wanted["sem_seg"])


def test_the_plan_names_them(tmp_path):
    keys = [*albumentations({"ToGray": {}}, {"Rotate": {}}), "INPUT.COLOR_JITTER", "[0.1, 0.1, 0.1, 0.1]"]
    assert build_trainee(config(*keys)).notes == {"augment": "ColorJitter, ToGray, Rotate"}
    teacher = [*save_teacher(tmp_path), "DISTILL.TEACHER.CACHE", tmp_path / "kept"]
    assert build_trainee(config(*keys, *teacher)).notes == {
        "augment": "ColorJitter, ToGray, Rotate; the cached teacher saw images without, and teaches where their pixels "
        "are now"
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("HorizontalFlip", "HorizontalFlip is not {HorizontalFlip: {p: 0.5}}, a transform of albumentations with its"),
        ({"ToGray": {}, "CLAHE": {}}, "is not {HorizontalFlip: {p: 0.5}}, a transform of"),
        ({"HorizontalFlop": {}}, "HorizontalFlop is not a transform of albumentations"),
        ({"os": {}}, "os is not a transform of albumentations"),
        ({"Compose": {"transforms": []}}, "nor one of OneOf, RandomOrder, Sequential, SomeOf"),
        ({"ToGray": 0.5}, "the arguments of ToGray are 0.5: want {HorizontalFlip: {p: 0.5}}, a transform"),
        ({"ToGray": {"chance": 1}}, "ToGray: Argument(s) 'chance' are not valid for transform ToGray"),
        ({"ToGray": {"p": 2}}, "ToGray: p is 2: want a number from 0 to 1"),
        ({"RandomRotate90": {"p": -1}}, "RandomRotate90: p is -1: want a number from 0 to 1"),
        (
            {"RandomRotate90": {"q": 1}},
            "RandomRotate90: RandomRotate90.__init__() got an unexpected keyword",
        ),
        ({"Rotate": {"limit": "much"}}, "Rotate: limit: Input should be a valid tuple"),
        ({"OneOf": {}}, "OneOf has no transforms: want {OneOf: {transforms: [{…}, …], p: 0.5}}"),
        ({"OneOf": {"transforms": [{"ToGray": {}}], "p": 7}}, "OneOf: p is 7: want a number from 0 to 1"),
        ({"OneOf": {"transforms": [{"ToGray": {"p": 0}}]}}, "OneOf: "),
        ({"SomeOf": {"transforms": [{"ToGray": {}}], "n": 3}}, "SomeOf: `n` is greater than number of transforms"),
        ({"OneOf": {"transforms": [{"ToGray": {}}], "q": 1}}, "OneOf: OneOf.__init__() got an unexpected keyword"),
        ({"Normalize": {}}, "Normalize gives pixels of float32: leave it out, as MODEL.PIXEL_MEAN and STD normalize"),
        ({"Resize": {"height": 64, "width": 64}}, "Resize changes the size of images: use INPUT.SCALES and CROP_SIZE"),
        ({"RandomCrop": {"height": 64, "width": 64}}, "RandomCrop cannot be applied to an image and its label alone"),
        ({"FDA": {}}, "FDA cannot be applied to an image and its label alone: "),
        ({"CoarseDropout3D": {}}, "CoarseDropout3D changes nothing in an image: leave it out"),
        ({"Rotate": {"fill_mask": 99}}, "Rotate gives labels beyond the 11 classes: set its fill_mask to 255"),
    ],
)
def test_what_is_refused(entry, message):
    with pytest.raises(UserError) as error:
        config(*albumentations(entry))
    assert str(error.value).startswith("INPUT.ALBUMENTATIONS: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_quarter_turn_of_a_crop_that_is_no_square():
    turn = albumentations({"RandomRotate90": {}})
    config(*turn)
    with pytest.raises(UserError, match="RandomRotate90 changes the size"):
        config(*turn, "INPUT.CROP_SIZE", [64, 96])


def test_what_needs_labels_with_images_that_have_none():
    dropped = albumentations({"MaskDropout": {}})
    config(*dropped)
    with pytest.raises(UserError, match="MaskDropout cannot be applied to an image without a label alone: "):
        config(*dropped, "DATASETS.UNLABELED", "['train']")


def test_what_a_cached_teacher_cannot_follow(tmp_path):
    teacher = [*save_teacher(tmp_path), "DISTILL.TEACHER.CACHE", tmp_path / "kept"]
    for name in ("ToGray", "CoarseDropout", "PixelDropout", "Affine"):
        config(*teacher, *albumentations({name: {}}))
    for name in ("RandomGridShuffle", "ElasticTransform"):
        config(*albumentations({name: {}}))
        with pytest.raises(UserError, match=f"ALBUMENTATIONS: {name} moves pixels in a way that DISTILL.TEACHER.CACHE"):
            config(*teacher, *albumentations({name: {}}))


@pytest.mark.parametrize("value", ["[0.5]", "[0.5, 0.5, 0.5, 0.6]", "[-1, 0, 0, 0]", "['a', 0, 0, 0]"])
def test_color_jitter_that_means_nothing(value):
    with pytest.raises(UserError, match=r"^INPUT.COLOR_JITTER is \[.*: want \[brightness, contrast, saturation, hue\]"):
        config("INPUT.COLOR_JITTER", value)


def test_albumentations_knows_the_names():
    assert all(issubclass(kind, A.DualTransform) for kind in STRAIGHT)
