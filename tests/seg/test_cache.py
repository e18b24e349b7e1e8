"""The teacher's logits kept on disk: at the student's pixels, whatever it sees, and never another teacher's."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from densedist.common.cache.arrays import Arrays
from densedist.common.cache.filling import fill
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition
from densedist.seg.cache import CachedReader, fill_cache, open_cache
from densedist.seg.data.reading import Reader
from densedist.seg.data.transforms import TrainingTransform
from densedist.seg.labels import Classes
from densedist.seg.loader import training_batches
from densedist.seg.models import build_trainee
from densedist.seg.networks.network import build_network
from densedist.seg.teacher.kept import KeptLogits
from helpers.calling import densedist
from helpers.processes import run_processes
from helpers.scenes import SMALL, STUDENT, config, save_teacher

SIZE = (150, 210)
PADDED = (160, 224)
SPLIT = "train[:6]"


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def keys(teacher_keys, folder, *more):
    return [*teacher_keys, "DISTILL.TEACHER.CACHE", folder, "DATASETS.TRAIN", [SPLIT], *more]


class RampReader(Reader):
    """Of every frame an image whose red and green are x and y, with fractions where they are interpolated."""

    def read(self, _):
        y, x = np.indices(SIZE, dtype=np.float32)
        return np.stack([x, y, 0 * x], 2), None


@pytest.fixture
def place_reader(tmp_path):
    """Reads an image that shows its places, with a teacher whose logits are its places, by scales and crop."""
    file = str(tmp_path / "image.png")
    Path(file).write_text("")
    grid = 21, 29
    ys, xs = np.meshgrid(*(np.linspace(0, n - 1, g) for n, g in zip(PADDED, grid, strict=True)), indexing="ij")
    logits = {"cls_logits": torch.from_numpy(np.stack([xs, ys]))}
    about = {"size": list(PADDED), "shapes": {"cls_logits": [2, *grid]}}
    kept = tmp_path / "kept"
    fill(kept, [file], {}, lambda _: about, lambda _: logits)
    frame = {"name": "image", "image": file, "label": None}
    classes = Classes.of(config(STUDENT))

    def read(scales, crop, seed):
        np.random.seed(seed)
        transform = TrainingTransform(scales, crop, True, (7, 8, 9))
        return CachedReader(RampReader(classes, "RGB"), transform, {file: (Arrays(kept), 0)})(frame)

    return read


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("crop", [(96, 128), (200, 256)])
def test_student_and_teacher_are_at_the_same_pixels(place_reader, scale, crop):
    teacher = KeptLogits(build_network(config(STUDENT)).eval())
    student = torch.zeros(4, 2, crop[0] // 8, crop[1] // 8)
    samples = [place_reader([scale], crop, seed) for seed in range(4)]
    maps, seen = teacher.begin(samples).at({"cls_logits": student}, crop)
    rows, columns = (
        torch.linspace(0, length - 1, count) for length, count in zip(crop, student.shape[2:], strict=True)
    )
    # What the student sees at its logits' places, between pixels: x and y as the image shows them.
    grid = torch.stack(torch.meshgrid(columns / (crop[1] - 1), rows / (crop[0] - 1), indexing="xy"), -1) * 2 - 1
    images = torch.stack([sample["image"][:2] for sample in samples]).double()
    shown = torch.nn.functional.grid_sample(images, grid.double().expand(4, -1, -1, -1), align_corners=True)
    difference = (maps["cls_logits"] - shown).abs()[seen["cls_logits"][:, None].expand(-1, 2, -1, -1)]
    # float16 is off by up to 1/16; where an enlarged image ends, a pixel shows what is beside it.
    assert difference.max() < 0.3
    assert difference.mean() < 0.04
    assert seen["cls_logits"].any()
    assert seen["cls_logits"].all() == (scale * SIZE[0] >= crop[0] and scale * SIZE[1] >= crop[1])


def test_padding_is_not_seen(place_reader):
    sample = place_reader([0.5], (200, 256), 1)
    teacher = KeptLogits(build_network(config(STUDENT)).eval())
    _, seen = teacher.begin([sample]).at({"cls_logits": torch.zeros(1, 2, 25, 32)}, (200, 256))
    part = seen["cls_logits"][0].float().mean()
    assert 0.12 < part < 0.155  # 75x105 of 200x256, less its border


@pytest.mark.parametrize("ignored", [True, False])
def test_whole_images_teach_as_live(teacher_keys, tmp_path, ignored):
    more = ["INPUT.CROP_SIZE", [128, 128], "INPUT.SCALES", [1.0], "INPUT.RANDOM_FLIP", "none"]
    more += ["DISTILL.IGNORED_PIXELS", ignored, "DISTILL.KD.WEIGHT", 1.0]
    losses = []
    for cache in (tmp_path / "kept", ""):
        cfg = config(STUDENT, *keys(teacher_keys, cache, *more))
        torch.manual_seed(0)
        trainee = build_trainee(cfg)
        fill_cache(cfg, trainee)
        batch = next(iter(training_batches(cfg)(RunPosition(0))))
        assert ("teacher" in batch[0]) == bool(cache)
        losses.append(trainee.model.train()(batch))
    cached, live = losses
    assert cached.keys() == live.keys() == {"loss_ce", "loss_dist", "loss_kd"}
    for name in live:
        torch.testing.assert_close(cached[name], live[name], rtol=2e-3, atol=1e-4)


def test_a_teacher_of_other_classes_teaches_as_live(tmp_path):
    """Where it knows too little of a pixel it teaches nothing there, from a cache, too."""
    names = ["background", *map(str, range(10)), "sky"]
    classes = [{"name": name, "ids": [number], "color": [0, 0, number]} for number, name in enumerate(names)]
    words = "DATASETS.CLASSES", str(classes), "DATASETS.IGNORED_IDS", "[]"
    teacher = save_teacher(tmp_path / "teacher", *words)
    content = torch.load(file := tmp_path / "teacher" / "weights.pth", weights_only=True)
    content["model"]["segmentation_head.0.weight"] *= 10  # pixels are to differ
    torch.save(content, file)
    more = ["INPUT.CROP_SIZE", [128, 128], "INPUT.SCALES", [1.0], "INPUT.RANDOM_FLIP", "none"]
    more += ["DISTILL.TEACHER.CLASSES.0", "['0']", "DISTILL.TEACHER.KEPT_MASS", 0.935]
    seen = []
    for cache in (tmp_path / "kept", ""):
        cfg = config(STUDENT, *keys(teacher, cache, *more))
        trainee = build_trainee(cfg)
        fill_cache(cfg, trainee)
        batch = next(iter(training_batches(cfg)(RunPosition(0))))
        places = {"cls_logits": torch.zeros(len(batch), 11, 16, 16)}
        seen.append(trainee.distillation.teacher.begin(batch).at(places, (128, 128)))
    (cached, counts), (live, counts_live) = seen
    assert cached.keys() == live.keys() == {"cls_logits"}
    torch.testing.assert_close(cached["cls_logits"], live["cls_logits"], rtol=2e-3, atol=1e-2)
    share = counts_live["cls_logits"].float().mean()
    assert 0.05 < share < 0.95
    assert (counts["cls_logits"] == counts_live["cls_logits"]).float().mean() > 0.98  # float16 at the threshold


def test_auxiliary_logits_are_kept_too(tmp_path):
    teacher = save_teacher(tmp_path / "teacher", "MODEL.AUX_HEAD.ENABLED", "True")
    cfg = config(STUDENT, *keys(teacher, tmp_path / "kept", "MODEL.AUX_HEAD.ENABLED", True))
    trainee = build_trainee(cfg)
    fill_cache(cfg, trainee)
    losses = trainee.model.train()(next(iter(training_batches(cfg)(RunPosition(0)))))
    assert losses["loss_dist_aux_logits"] > 0


def filled(cfg, trainee, calls):
    """fill_cache, with the images that the teacher sees counted."""
    model = trainee.distillation.teacher.model
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    try:
        return fill_cache(cfg, trainee)
    finally:
        handle.remove()


def test_teacher_sees_each_image_once(teacher_keys, tmp_path):
    more = ["DATASETS.UNLABELED", ["val[:3]"], "DATASETS.PSEUDO_LABELED", ["train[8:10]"]]
    cfg = config(STUDENT, *keys(teacher_keys, tmp_path, *more))
    trainee, calls = build_trainee(cfg), []
    seconds = filled(cfg, trainee, calls)
    assert len(calls) == 6 + 3 + 2 + 3  # one more for the shapes of each split
    assert filled(cfg, trainee, calls) == seconds > 0
    assert len(calls) == 14
    assert len(open_cache(cfg)) == 11


def test_what_was_begun_is_gone_on_with(tmp_path):
    files = [str(tmp_path / f"{number}.png") for number in range(5)]
    for number, file in enumerate(files):
        Path(file).write_text(str(number))
    seen = []

    def compute(number):
        seen.append(number)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return {"a": torch.full((2, number + 1), number)}

    def begin():
        return fill(tmp_path / "kept", files, {"teacher": "1"}, lambda n: {"shapes": {"a": [2, n + 1]}}, compute)

    with pytest.raises(KeyboardInterrupt):
        begin()
    begin()
    assert seen == [0, 1, 2, 3, 3, 4]
    arrays = Arrays(tmp_path / "kept")
    for number in range(5):
        assert (arrays.read(number)["a"] == number).all()
        assert arrays.read(number)["a"].shape == (2, number + 1)


def test_a_moved_data_set_is_the_same(tmp_path):
    one, two = tmp_path / "one.png", tmp_path / "two"
    one.write_text("1")
    calls = []

    def begin(file):
        fill(tmp_path / "kept", [str(file)], {}, lambda _: {"shapes": {"a": [1]}}, compute)

    def compute(number):
        calls.append(number)
        return {"a": torch.zeros(1)}

    begin(one)
    two.mkdir()
    one.rename(two / "one.png")
    begin(two / "one.png")
    assert calls == [0]
    assert Arrays(tmp_path / "kept").images == [str(two / "one.png")]
    (two / "one.png").write_text("2")
    with pytest.raises(UserError, match=r"one\.png has changed since it was made: name another folder"):
        begin(two / "one.png")


def refusal(cfg):
    with pytest.raises(UserError) as error:
        fill_cache(cfg, build_trainee(cfg))
    return str(error.value)


def test_what_does_not_belong_together_is_refused(teacher_keys, tmp_path):
    cfg = config(STUDENT, *keys(teacher_keys, tmp_path / "kept"))
    fill_cache(cfg, build_trainee(cfg))
    state = torch.load(teacher_keys[3], weights_only=True)
    next(iter(state["model"].values())).mul_(1.001)
    torch.save(state, tmp_path / "other.pth")
    other = config(STUDENT, *keys(teacher_keys, tmp_path / "kept", "DISTILL.TEACHER.WEIGHTS", tmp_path / "other.pth"))
    assert "was made for another teacher, or for other settings of images or logits" in refusal(other)
    bgr = config(STUDENT, *keys(teacher_keys, tmp_path / "kept", "INPUT.FORMAT", "BGR"))
    fill_cache(bgr, build_trainee(bgr))  # the teacher sees the same pixels
    record = tmp_path / "kept" / f"{SPLIT}.logits.json"
    text = json.loads(record.read_text())
    record.write_text(json.dumps(text | {"images": text["images"][1:]}))
    assert "was made for 5 images, not all of which are in the data set" in refusal(cfg)


@pytest.mark.parametrize(
    ("keys_of_loss", "wanted"),
    [
        (["DISTILL.MIMIC.WEIGHT", "1.0"], "but DISTILL.MIMIC compares features"),
        # It has no mask, and would compare the padding, of which the teacher has no logits.
        (["DISTILL.CWD.WEIGHT", "1.0", "DISTILL.CWD.TAP", "logit_maps"], "but DISTILL.CWD compares logit_maps"),
    ],
)
def test_losses_that_need_more_are_refused_by_name(teacher_keys, tmp_path, capsys, keys_of_loss, wanted):
    argv = ["train", "seg", "--config-file", str(STUDENT), *SMALL, *keys(teacher_keys, tmp_path / "kept")]
    argv += [*keys_of_loss, "OUTPUT_DIR", tmp_path / "out", "DATASETS.TEST", "[]"]
    with pytest.raises(SystemExit) as stop:
        densedist(*map(str, argv))
    assert stop.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"error: DISTILL.TEACHER.CACHE is for losses on class logits, {wanted}")


def test_a_full_disk_and_a_file_in_the_way_are_one_line(teacher_keys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert "cannot write to" in refusal(config(STUDENT, *keys(teacher_keys, tmp_path / "file")))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("densedist.common.cache.filling.os.posix_fallocate", full)
    kept = tmp_path / "kept"
    assert "no room for" in refusal(config(STUDENT, *keys(teacher_keys, kept)))
    monkeypatch.undo()
    fill_cache(cfg := config(STUDENT, *keys(teacher_keys, kept)), build_trainee(cfg))


def test_numbers_beyond_float16_are_refused(tmp_path):
    (tmp_path / "image").write_text("")
    with pytest.raises(UserError, match=r"a of .*image is not finite in float16"):
        fill(
            tmp_path / "kept",
            [str(tmp_path / "image")],
            {},
            lambda _: {"shapes": {"a": [1]}},
            lambda _: {"a": torch.full((1,), 1e6)},
        )


def test_eight_bits_take_half_the_room_and_teach_the_same(teacher_keys, tmp_path):
    more = ["DISTILL.KD.WEIGHT", 1.0, "INPUT.CROP_SIZE", [128, 128], "INPUT.SCALES", [0.8]]
    losses, sizes = [], []
    for bits in (16, 8):
        kept = tmp_path / str(bits)
        cfg = config(STUDENT, *keys(teacher_keys, kept, *more, "DISTILL.TEACHER.CACHE_BITS", bits))
        torch.manual_seed(0)
        trainee = build_trainee(cfg)
        fill_cache(cfg, trainee)
        sizes.append((kept / f"{SPLIT}.logits").stat().st_size)
        losses.append(trainee.model.train()(next(iter(training_batches(cfg)(RunPosition(0))))))
    assert 0.5 <= sizes[1] / sizes[0] < 0.55  # of each image the largest distance; none shares a page with another
    assert losses[0] != losses[1]
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value, rtol=2e-3, atol=1e-4)


def test_how_much_probability_is_known_keeps_its_value_in_eight_bits(tmp_path):
    """It is no distance from the highest class."""
    names = ["background", *map(str, range(10)), "sky"]
    classes = [{"name": name, "ids": [number], "color": [0, 0, number]} for number, name in enumerate(names)]
    teacher = save_teacher(tmp_path / "teacher", "DATASETS.CLASSES", str(classes), "DATASETS.IGNORED_IDS", "[]")
    read = []
    for bits in (16, 8):
        more = ["DISTILL.TEACHER.CLASSES.0", "['0']", "DISTILL.TEACHER.CACHE_BITS", bits]
        cfg = config(STUDENT, *keys(teacher, tmp_path / str(bits), *more))
        fill_cache(cfg, build_trainee(cfg))
        arrays, number = next(iter(open_cache(cfg).values()))
        read.append(arrays.read(number))
    assert torch.equal(read[0]["kept_mass"], read[1]["kept_mass"])
    assert not torch.equal(read[0]["cls_logits"], read[1]["cls_logits"])
    probabilities = [each["cls_logits"].double().softmax(0) for each in read]
    torch.testing.assert_close(*probabilities, rtol=0, atol=0.01)


def test_bits_are_chosen_before_the_file_is_made(teacher_keys, tmp_path):
    cfg = config(STUDENT, *keys(teacher_keys, tmp_path / "kept"))
    fill_cache(cfg, build_trainee(cfg))
    eight = config(STUDENT, *keys(teacher_keys, tmp_path / "kept", "DISTILL.TEACHER.CACHE_BITS", 8))
    assert "other settings of images or logits: name another folder, or delete this one" in refusal(eight)
    none = config(STUDENT, *keys(teacher_keys, "", "DISTILL.TEACHER.CACHE_BITS", 8))
    assert refusal(none) == (
        "DISTILL.TEACHER.CACHE_BITS is 8, but DISTILL.TEACHER.CACHE is empty: name a folder, or set it to 16"
    )
    with pytest.raises(UserError, match=r"^DISTILL\.TEACHER\.CACHE_BITS is 4: want 8 or 16$"):
        config(STUDENT, "DISTILL.TEACHER.CACHE_BITS", 4)


def test_a_run_goes_on_bit_for_bit(teacher_keys, tmp_path):
    def run(name, *options):
        words = [*SMALL, *keys(teacher_keys, tmp_path / "kept"), "DATASETS.TEST", "[]", "SOLVER.MAX_ITER", 4]
        words += ["SOLVER.CHECKPOINT_PERIOD", "2", "SEED", "3", "OUTPUT_DIR", tmp_path / name]
        densedist("train", "seg", "--config-file", str(STUDENT), *options, *map(str, words))

    run("whole")
    run("cut")
    (tmp_path / "cut" / "model_final.pth").unlink()
    (tmp_path / "cut" / "last_checkpoint").write_text("model_0000001.pth")
    run("cut", "--resume")
    whole, cut = (
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"] for name in ("whole", "cut")
    )
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert "once_seconds" in (tmp_path / "whole" / "metrics.json").read_text()


def fill_in_a_process(rank, count, words):
    cfg = config(STUDENT, *words)
    assert fill_cache(cfg, build_trainee(cfg)) > 0


def test_two_processes_keep_what_one_keeps(teacher_keys, tmp_path):
    cfg = config(STUDENT, *keys(teacher_keys, tmp_path / "one"))
    fill_cache(cfg, build_trainee(cfg))
    run_processes(2, fill_in_a_process, keys(teacher_keys, tmp_path / "two"))
    one, two = (Arrays(tmp_path / name / f"{SPLIT}.logits") for name in ("one", "two"))
    assert one.missing() == two.missing() == []
    for number in range(6):
        torch.testing.assert_close(one.read(number), two.read(number), rtol=1e-2, atol=1e-2)
