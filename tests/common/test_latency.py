"""What is measured of a model in each runtime. How fast anything is depends on the machine."""

from types import SimpleNamespace

import pytest
import torch

from densedist.common import latency
from densedist.common.errors import UserError
from densedist.common.export_names import Needs
from densedist.common.latency import COMPILED, PYTORCH, float_layers, forms_of
from densedist.common.runtimes import CONVERSION, FLOAT, INT8, Spent


def test_layers_in_float_by_their_share():
    layers = [Spent("Conv", INT8, 5.0), Spent("Conv", FLOAT, 2.0), Spent("Resize", FLOAT, 1.5)]
    layers += [Spent("Resize", FLOAT, 0.5), Spent("QuantizeLinear", CONVERSION, 0.5), Spent("Add", "", 0.5)]
    assert float_layers(layers) == (
        "3 layers stay in float32 and take 40 % of the time of one thread (Conv 20 %, Resize 20 %); 1 in 8 bits take "
        "50 %, conversions 5 %"
    )


def subjects(model, compiled):
    one = SimpleNamespace(name="student", model=model, batch=lambda size, count: torch.ones(count), compiled=compiled)
    return SimpleNamespace(models=[one], pixels=lambda size: None)


def test_a_compiled_model_runs_in_its_threads(tmp_path):
    seen = []
    made = subjects(torch.nn.ReLU(), lambda threads: lambda x: seen.append((threads, torch.get_num_threads())))
    forms = forms_of(made, (8, 8), tmp_path, True)
    assert list(forms) == [("student", PYTORCH), ("student", COMPILED)]
    before = torch.get_num_threads()
    forms["student", COMPILED][1](2)
    assert seen == [(2, 2)]
    assert torch.get_num_threads() == before
    assert list(forms_of(made, (8, 8), tmp_path, False)) == [("student", PYTORCH)]


def test_no_compiler(tmp_path):
    def compiled(threads):
        def run(x):
            raise RuntimeError("no g++")

        return run

    forms = forms_of(subjects(torch.nn.ReLU(), compiled), (8, 8), tmp_path, True)
    with pytest.raises(UserError, match=r"cannot run the student \(.*no g\+\+\): it needs a C\+\+ compiler; or leave"):
        forms["student", COMPILED][1](1)


def test_only_files_that_are_there_and_run_here(tmp_path, monkeypatch):
    for name in ("model.onnx", "model.int8.onnx", "model.xml"):
        (tmp_path / name).touch()
    found = latency.exported_files(tmp_path)
    assert [file.name for file in found.values()] == ["model.onnx", "model.int8.onnx", "model.xml"]
    monkeypatch.setattr(latency.RUNTIMES["openvino"], "needs", Needs("openvino", ("not_there",)))
    assert [file.name for file in latency.exported_files(tmp_path).values()] == ["model.onnx", "model.int8.onnx"]
