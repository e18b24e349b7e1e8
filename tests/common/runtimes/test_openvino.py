"""OpenVINO's files: what they say of themselves, and what a stranger's may do."""

import pytest
import torch

from densedist.common.errors import UserError
from densedist.common.foreign.programs import read_program
from densedist.common.runtimes import RUNTIMES

# OpenVINO and NNCF run in this process; later forks of it ended without a word. Until that is understood, not in CI.
pytestmark = pytest.mark.slow

SAID = {"task": "segmentation", "classes": ["a", 'ä"<'], "scale": 0.5}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openvino")
    images = torch.zeros(1, 3, 8, 8)
    network = torch.nn.Conv2d(3, 2, 1).eval()
    torch.onnx.export(network, (images,), str(folder / "a.onnx"), input_names=["images"], output_names=["logits"])
    RUNTIMES["openvino"].write(folder / "a.onnx", folder / "a.xml", SAID)
    return folder / "a.xml"


def test_a_file_says_what_was_written_of_it(file):
    assert RUNTIMES["openvino"].describe(file) == RUNTIMES["openvino"].load(file).description == SAID
    assert RUNTIMES["openvino"].size(file) == file.stat().st_size + file.with_suffix(".bin").stat().st_size


def test_an_operator_of_a_library_is_not_looked_for(file, tmp_path):
    text = file.read_text()
    assert 'type="Convolution" version="opset1"' in text
    bomb = tmp_path / "a.xml"
    bomb.write_text(text.replace('type="Convolution" version="opset1"', 'type="Bomb" version="extension"'))
    bomb.with_suffix(".bin").write_bytes(file.with_suffix(".bin").read_bytes())
    with pytest.raises(UserError, match=r"KEY: .*a.xml cannot be read as openvino: .*Bomb"):
        read_program("openvino", str(bomb), "cpu", False, "KEY")
