"""A teacher's maps kept on disk: what it teaches is what it teaches live, for one size and its mirror image."""

import pytest
import torch
from detectron2.utils.events import EventStorage

from densedist.common.cache.arrays import Arrays
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition
from densedist.det.cache.filling import fill_cache
from densedist.det.loader import training_batches
from densedist.det.models import build_trainee, load_config
from densedist.det.taps.features import Features, shared_levels
from helpers.calling import densedist
from helpers.killing import differences
from helpers.tiny import DIGITS, SMALL, STUDENT, TEACHER, build_student, config, save_teacher

TRAIN = ["DATASETS.TRAIN", "('digits_val',)", "DATASETS.UNLABELED", "['digits_test']", "DATASETS.TEST", "()"]
PAIRS = {
    "two-stage": (STUDENT, TEACHER),
    "one-stage": (DIGITS / "retinanet_r10_quarter.yaml", DIGITS / "retinanet_r10t.yaml"),
}
EVERY_KIND = ["DISTILL.KD.WEIGHT", "1.0", "DISTILL.MIMIC.WEIGHT", "1.0", "DISTILL.RKD.WEIGHT", "1.0"]


@pytest.fixture(scope="module", params=PAIRS)
def pair(request, tmp_path_factory):
    """A student's config and the overrides that name its teacher."""
    student, teacher = PAIRS[request.param]
    return student, save_teacher(tmp_path_factory.mktemp("teacher"), file=teacher)


def loaded(pair, cache, *more):
    kept = ["DISTILL.TEACHER.CACHE", str(cache), "DISTILL.TEACHER.CACHE_MAPS", "True"] if cache else []
    return load_config(str(pair[0]), [*SMALL, *TRAIN, *pair[1], *kept, *map(str, more)])


def losses(cfg, position):
    torch.manual_seed(0)
    trainee = build_trainee(cfg)
    fill_cache(cfg, trainee)
    batch = next(iter(training_batches(cfg)(RunPosition(0, position))))
    calls = []
    trainee.distillation.teacher.model.backbone.register_forward_hook(lambda *_: calls.append(1))
    with EventStorage():
        return trainee.model.train()(batch), len(calls)


@pytest.mark.parametrize("flip", ["none", "horizontal"])
def test_cached_maps_teach_as_live(pair, tmp_path, flip):
    for position in range(3 if flip == "horizontal" else 1):  # some are mirrored
        more = ["INPUT.RANDOM_FLIP", flip, *EVERY_KIND]
        cached, calls = losses(loaded(pair, tmp_path, *more), position)
        live, some = losses(loaded(pair, "", *more), position)
        assert (calls, some > 0) == (0, True)
        assert cached.keys() == live.keys()
        assert "loss_mimic_unlabeled" in cached
        for name in live:
            torch.testing.assert_close(cached[name], live[name], rtol=1e-2, atol=1e-3)  # float16


def test_images_of_several_sizes_in_a_batch(pair, tmp_path):
    cfg = loaded(pair, tmp_path)
    teacher = build_trainee(cfg).distillation.teacher
    images = [torch.full((3, 64, 96), 99.0), torch.full((3, 96, 64), 50.0)]
    kept = [{"teacher": {n: x[0].half() for n, x in teacher.live_maps([image]).items()}} for image in images]
    together, live = teacher.maps(kept), teacher.live_maps(images)
    assert {name: x.shape for name, x in together.items()} == {name: x.shape for name, x in live.items()}
    for number, sample in enumerate(kept):
        for name, x in sample["teacher"].items():
            assert torch.equal(together[name][number, :, : x.shape[1], : x.shape[2]].half(), x)
            assert together[name][number].count_nonzero() <= x.numel()


def test_a_run_goes_on_bit_for_bit(pair, tmp_path):
    def run(name, *options):
        kept = [
            "DISTILL.TEACHER.CACHE",
            tmp_path / "kept",
            "DISTILL.TEACHER.CACHE_MAPS",
            "True",
            "SOLVER.MAX_ITER",
            "3",
        ]
        words = [*SMALL, *TRAIN, *pair[1], *kept, "SOLVER.CHECKPOINT_PERIOD", "2", "SEED", "3"]
        densedist("train", "det", "--config-file", pair[0], *options, *words, "OUTPUT_DIR", tmp_path / name)

    run("whole")
    run("cut")
    (tmp_path / "cut" / "model_final.pth").unlink()
    (tmp_path / "cut" / "last_checkpoint").write_text("model_0000001.pth")
    run("cut", "--resume")
    whole, cut = (torch.load(tmp_path / n / "model_final.pth", weights_only=True) for n in ("whole", "cut"))
    assert differences(whole, cut) == []
    assert Arrays(tmp_path / "kept" / "digits_val.maps").missing() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["INPUT.MIN_SIZE_TRAIN", "(96, 128)"], "one size, but INPUT.MIN_SIZE_TRAIN is (96, 128): want one size"),
        (["INPUT.CROP.ENABLED", "True"], "whole images at one size: set INPUT.CROP.ENABLED to False"),
        (["INPUT.RANDOM_FLIP", "vertical"], "INPUT.RANDOM_FLIP is vertical: want none or horizontal"),
    ],
)
def test_what_cannot_be_kept_is_refused(pair, tmp_path, words, said):
    cfg = loaded(pair, tmp_path, *words)
    with pytest.raises(UserError) as error:
        fill_cache(cfg, build_trainee(cfg))
    assert said in str(error.value)


def test_maps_without_a_folder_are_refused(pair):
    cfg = loaded(pair, "", "DISTILL.TEACHER.CACHE_MAPS", True)
    with pytest.raises(UserError, match=r"CACHE_MAPS is set, but DISTILL.TEACHER.CACHE is empty: name a folder"):
        fill_cache(cfg, build_trainee(cfg))


def test_a_loader_of_ones_own_is_told(pair, tmp_path):
    words = [*pair[1], "DISTILL.TEACHER.CACHE", tmp_path, "DISTILL.TEACHER.CACHE_MAPS", True]
    model = build_student(config(pair[0], *words))
    with pytest.raises(UserError, match="in a script of your own leave it empty"):
        model.distillation.teacher.maps([{"image": torch.zeros(3, 64, 64)}])


def test_padding_does_not_count(pair, tmp_path):
    """From a cache the teacher's maps are zeros there; live it says what it sees in pixels that are none."""
    cfg = loaded(pair, tmp_path, "DISTILL.MIMIC.WEIGHT", "1.0", "DISTILL.DIST.WEIGHT", "0.0")
    trainee = build_trainee(cfg)
    model, teacher = trainee.model, trainee.distillation.teacher
    inputs = [{"image": torch.zeros(3, *size)} for size in ((64, 96), (90, 64))]
    for sample in inputs:
        sample["teacher"] = {n: x[0].half() for n, x in teacher.live_maps([sample["image"]]).items()}
    recorded = [model.backbone(model.preprocess_image(inputs).tensor)]
    taps = Features().taps({"features"}, model, recorded, teacher.begin(inputs))
    tap = taps["features"]
    strides = [model.backbone.output_shape()[name].stride for name in shared_levels(model.backbone, model.backbone)[0]]
    for places, student, taught, stride in zip(tap.valid, tap.student, tap.teacher, strides, strict=True):
        sizes = [(-(-height // stride), -(-width // stride)) for height, width in ((64, 96), (90, 64))]
        assert places.sum((1, 2)).tolist() == [height * width for height, width in sizes]
        assert places.shape == student[:, 0].shape == taught[:, 0].shape
        assert taught[0, :, sizes[0][0] :].count_nonzero() == 0
    (loss,) = trainee.distillation.distiller(taps).values()
    for taught, places in zip(tap.teacher, tap.valid, strict=True):
        taught.masked_fill_(~places[:, None], 1e3)
    assert torch.equal(*trainee.distillation.distiller(taps).values(), loss)
