"""What a runtime writes in 8 bits and cannot run is refused, and taken away."""

from pathlib import Path

import numpy as np
import pytest

from densedist.common.errors import UserError
from densedist.common.int8 import _quantize
from densedist.common.runtimes import RUNTIMES


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_graph_that_does_not_run(name, tmp_path, monkeypatch):
    runtime, quantized = RUNTIMES[name], tmp_path / f"model.int8{RUNTIMES[name].suffix}"

    def load(file):
        def run(image):
            raise RuntimeError("no such Subtract")

        return run

    monkeypatch.setattr(runtime, "quantize", lambda source, file, images: [x.touch() for x in runtime.files(file)])
    monkeypatch.setattr(runtime, "load", load)
    with pytest.raises(
        UserError, match=rf"cannot run a in 8 bits \(.*no such Subtract\): leave out --int8, or {name} of"
    ):
        _quantize(runtime, Path("a"), quantized, [np.zeros(1)])
    assert not list(tmp_path.iterdir())
