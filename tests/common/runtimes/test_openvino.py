"""OpenVINO's files: what they say of themselves, what a stranger's may do, and that a process outlives their use."""

import subprocess
import sys
import threading

import nncf
import numpy as np
import pytest
import torch

from densedist.common.errors import UserError
from densedist.common.foreign.programs import read_program
from densedist.common.runtimes import RUNTIMES

IMAGES = [np.random.default_rng(0).random((1, 3, 8, 8), np.float32)] * 2
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


FREED_IN_A_THREAD = """
import faulthandler, signal, subprocess, sys, threading
from pathlib import Path
import numpy as np
from densedist.common.runtimes import RUNTIMES
faulthandler.enable()  # handlers run on the stack for signals, as Python's own always do
signal.signal(signal.SIGCHLD, lambda *_: None)
graphs = [RUNTIMES["openvino"].load(Path(sys.argv[1]))]
graphs[0](np.zeros((1, 3, 8, 8), np.float32))
thread = threading.Thread(target=graphs.clear)
thread.start()
thread.join()
subprocess.run([sys.executable, "-c", ""], check=True)
print("alive")
"""


def test_signals_arrive_when_a_graph_has_gone_in_another_thread(file):
    done = subprocess.run([sys.executable, "-c", FREED_IN_A_THREAD, file], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_nncf_which_has_a_core_of_its_own_computes_in_a_thread_that_ends(file, tmp_path, monkeypatch):
    seen, quantize = [], nncf.quantize
    monkeypatch.setattr(nncf, "quantize", lambda *a, **k: seen.append(threading.current_thread()) or quantize(*a, **k))
    RUNTIMES["openvino"].quantize(file, tmp_path / "b.xml", IMAGES)
    (thread,) = seen
    assert thread is not threading.main_thread()
    assert not thread.is_alive()
