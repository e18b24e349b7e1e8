"""A small digits data set in a cache of its own, made before any test and inherited by child processes.

What takes seconds to import is imported where it is used: xdist's main process reads this file and runs no test.
"""

import gc
import os
import pickle
import tempfile
from functools import lru_cache

import pytest
import yaml

_cache = tempfile.TemporaryDirectory(prefix="dense-dist-tests-")
os.environ["XDG_CACHE_HOME"] = _cache.name
gc.disable()  # until everything is imported: it stays


@lru_cache(maxsize=256)
def _parsed(text: str) -> bytes:
    return pickle.dumps(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _safe_load(stream):
    """Parse each text once: configs are read thousands of times, by fvcore with YAML's slow loader."""
    text = stream if isinstance(stream, str) else stream.read()
    return pickle.loads(_parsed(text))


yaml.safe_load = _safe_load


@pytest.fixture(scope="session", autouse=True)
def small_digits():
    """Everything here is: threads would only wait for each other."""
    import torch

    from densedist.common import timing
    from densedist.common.data import digits

    gc.freeze()  # what is imported stays: no collection looks at it again
    gc.enable()
    torch.set_num_threads(1)
    timing.SECONDS, timing.LEAST = 0.1, 3
    digits.SCENES = {"train": 12, "val": 4, "test": 4}
    digits.ensure()
    yield
    _cache.cleanup()


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """In this process, but for tests marked as drawn."""
    from helpers.drawing import draw_nothing

    draw_nothing(monkeypatch.setattr, request.node.get_closest_marker("drawn"))


@pytest.fixture(autouse=True)
def no_data_set_is_left():
    """What a test registers by a name has that name in this process, whatever the next test means by it."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    known = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - known:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def each_backbone_is_tried_once():
    """In this process: most tests build the same two, and the trial is half of that."""
    from densedist.det.modeling import backbone

    find, known = backbone._for_any_size, {}

    def remembered(name, options):
        key = name, repr(options)
        if key in known:
            return backbone._create(name, known[key]), known[key]
        model, known[key] = find(name, options)
        return model, known[key]

    backbone._for_any_size = remembered
    yield
    backbone._for_any_size = find


@pytest.fixture(scope="session", autouse=True)
def random_numbers_are_drawn_once():
    from helpers.random_numbers import draw_once

    with pytest.MonkeyPatch.context() as patch:
        draw_once(patch.setattr)
        yield


@pytest.fixture
def quick_weights(monkeypatch):
    """Models start from the same few numbers again and again, where their weights are overwritten or do not matter."""
    import torch

    few = 0.05 * torch.randn(2**16, generator=torch.Generator().manual_seed(0))

    def fill(tensor, *_, **__):
        with torch.no_grad():
            parts = tensor.detach().view(-1).split(len(few))
            for part in parts:
                part.copy_(few[: len(part)])
        return tensor

    for name in ("uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_"):
        monkeypatch.setattr(torch.nn.init, name, fill)
