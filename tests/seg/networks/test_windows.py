"""Sliding window, scales and mirror image against what they must equal."""

import re
import weakref
from typing import ClassVar

import pytest
import torch

from densedist.common.errors import UserError
from densedist.seg.models import wrap
from densedist.seg.networks.network import build_network
from densedist.seg.networks.windows import Inference
from helpers.scenes import STUDENT, config


def pointwise(image):
    """A model that sees every pixel for itself: window and flip change nothing."""
    red, green, blue = image.float() / 50
    return torch.stack([red, green - blue, blue])


def image(height=30, width=47):
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("window", [(30, 47), (16, 16), (7, 20), (100, 100)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_windows_of_a_pointwise_model_give_the_whole_image(window, overlap):
    whole = Inference()(pointwise, image())
    assert torch.allclose(Inference(window=window, overlap=overlap)(pointwise, image()), whole, atol=1e-6)


def test_windows_overlap_at_least_as_asked_and_have_one_size():
    seen = []

    def spy(part):
        seen.append(tuple(part.shape[1:]))
        return pointwise(part)

    Inference(window=(16, 16), overlap=0.5)(spy, image())
    assert set(seen) == {(16, 16)}
    assert len(seen) == 3 * 5  # steps of at most 8 over 30 - 16 and 47 - 16 pixels


def test_flip_averages_the_image_and_its_mirror_image():
    def left_is_class_0(part):
        return torch.stack([torch.linspace(9, -9, part.shape[2]).expand(part.shape[1:]), torch.zeros(part.shape[1:])])

    result = Inference(flip=True)(left_is_class_0, image())
    once = Inference()(left_is_class_0, image())
    assert torch.allclose(result, (once + once.flip(2)) / 2, atol=1e-6)
    assert torch.allclose(result, result.flip(2), atol=1e-6)


def test_scales_are_seen_and_averaged_at_the_image_size():
    seen = []

    def spy(part):
        seen.append(tuple(part.shape[1:]))
        return torch.stack([torch.full(part.shape[1:], float(len(seen))), torch.zeros(part.shape[1:])])

    result = Inference(scales=(0.5, 1.0, 2.0))(spy, image())
    assert seen == [(15, 24), (30, 47), (60, 94)]
    wanted = torch.tensor([1.0, 2.0, 3.0]).sigmoid().mean()
    assert torch.allclose(result[0], wanted.expand(30, 47), atol=1e-6)


def test_probabilities_sum_to_one():
    result = Inference((0.5, 1.5), True, (16, 16))(pointwise, image())
    assert torch.allclose(result.sum(0), torch.ones(30, 47), atol=1e-5)


def test_views_are_added_up_as_they_come():
    """Of twelve views the probabilities of no more than two live at once, with and without a window."""
    for window in (None, (16, 16)):
        most, alive = Tracked.watch(), Inference((0.5, 0.75, 1.0, 1.25, 1.5, 1.75), True, window)
        result = alive(lambda part: Tracked.of(pointwise(part)), image())
        wanted = [Inference((scale,), True, window)(pointwise, image()) for scale in alive.scales]
        torch.testing.assert_close(result.as_subclass(torch.Tensor), torch.stack(wanted).mean(0), rtol=0, atol=1e-6)
        assert max(most) <= 2


class Tracked(torch.Tensor):
    """Logits or probabilities; whenever a network gives new ones, the views of the image's size alive are counted."""

    counts: ClassVar[list[int]] = []
    alive: ClassVar[list[weakref.ref]] = []

    @classmethod
    def watch(cls):
        cls.counts, cls.alive = [], []
        return cls.counts

    @classmethod
    def of(cls, logits):
        cls.counts.append(len({view.data_ptr() for ref in cls.alive if (view := ref()) is not None}))
        return logits.as_subclass(cls)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs)
        if isinstance(result, cls) and result.shape == (3, 30, 47):
            cls.alive.append(weakref.ref(result))
        return result


def test_everything_happens_where_the_image_is():
    result = Inference((0.5, 1.0), True, (16, 16))(pointwise, image().to("meta"))
    assert result.device.type == "meta"


def test_image_goes_to_the_models_device_once(monkeypatch):
    model = wrap(build_network(config(STUDENT)), config(STUDENT)).eval().to("meta")
    seen = []
    monkeypatch.setattr(Inference, "__call__", lambda self, logits, image: seen.append(image) or logits(image))
    model([{"image": image()}])
    assert [(x.device.type, x.dtype) for x in seen] == [("meta", torch.uint8)]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TEST.SCALES", "[]", "TEST.SCALES is []: want numbers above 0"),
        ("TEST.WINDOW_SIZE", "[64]", "TEST.WINDOW_SIZE is [64]: want [height, width]"),
        ("TEST.WINDOW_OVERLAP", "1.0", "TEST.WINDOW_OVERLAP is 1.0: want a number from 0 to below 1"),
    ],
)
def test_settings_out_of_range(key, value, message):
    with pytest.raises(UserError, match=re.escape(message)):
        config(STUDENT, key, value)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("window", "overlap"), [((16, 16), 0.5), ((7, 20), 0.9), ((8, 50), 0.0), ((100, 9), 0.3)])
def test_rows_are_the_probabilities_of_the_whole_and_no_more_than_a_windows_height(window, overlap, flip):
    def of_place(part):  # differs from window to window
        x, y = torch.linspace(-1, 1, part.shape[2]), torch.linspace(0, 3, part.shape[1])
        return pointwise(part) * x + y[:, None] * part[0]

    inference = Inference(window=window, overlap=overlap, flip=flip, mirrored_classes=[1, 0, 2])
    rows = list(inference.rows(of_place, image()))
    torch.testing.assert_close(torch.cat(rows, 1), inference(of_place, image()))
    assert max(part.shape[1] for part in rows) <= window[0]


def test_rows_at_other_scales_come_as_a_whole():
    for inference in (Inference(), Inference((0.5, 1.0), window=(8, 8))):
        (rows,) = inference.rows(pointwise, image())
        assert torch.equal(rows, inference(pointwise, image()))
