"""No form of file runs its author's program unless the user trusts it: a bomb for each, which does go off without care.

Programs of torch.export: tests/common/foreign/test_exported.py. IMPORTS: tests/common/config/test_imports.py.
Who trusts: tests/common/config/test_trust.py.
"""

import json
import pickle
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from densedist.common.config.trust import REMEDY
from densedist.common.engine.checkpoint import load_complete
from densedist.common.errors import UserError
from densedist.common.foreign.programs import read_program
from densedist.common.importing.reading import read_foreign
from helpers import bombs, scenes, tiny


def unpickle(file):
    with file.open("rb") as opened:
        pickle.load(opened)


def careless(file):
    torch.load(file, weights_only=False)


# Each form: what loads the file with trust or without, and what would set it off where no trust is ever taken.


def pickle_of_detectron2(folder, marker):
    file = folder / "model.pkl"
    file.write_bytes(bombs.pickled(marker))
    return partial(load_complete, nn.Linear(1, 1), str(file), "KEY"), None


def pickle_by_another_name(folder, marker):
    """Of which Detectron2 leaves the last letter out."""
    (folder / "model.pkl").write_bytes(bombs.pickled(marker))
    (folder / "model.pkl#").write_bytes(b"no pickle")
    return partial(load_complete, nn.Linear(1, 1), str(folder / "model.pkl#"), "KEY"), None


def proposals(folder, marker):
    from densedist.det.models import read_config

    file = folder / "proposals.pkl"
    file.write_bytes(bombs.pickled(marker))
    words = [*tiny.SMALL, "MODEL.LOAD_PROPOSALS", "True", "DATASETS.PROPOSAL_FILES_TRAIN", f"('{file}',)"]
    return lambda trust: read_config(str(tiny.STUDENT), words), partial(unpickle, file)


def checkpoint(folder, marker):
    file = bombs.checkpoint(folder / "model.pth", marker, model=nn.Linear(1, 1).state_dict())
    return partial(load_complete, nn.Linear(1, 1), str(file), "KEY"), partial(careless, file)


def checkpoint_to_import(folder, marker):
    return partial(read_foreign, str(bombs.checkpoint(folder / "their.pth", marker, model=nn.Linear(1, 1)))), None


def torchscript(folder, marker):
    file = bombs.script(folder / "model.torchscript", marker)

    def run(trust):
        read_program("torchscript", str(file), "cpu", trust, "KEY").run(torch.zeros(1, 3, 8, 8))

    return run, None


def pickle_in_a_folder_of_transformers(folder, marker):
    from densedist.seg.foreign.transformers import load
    from helpers import transformers

    transformers.write("segformer", folder)
    (folder / "model.safetensors").unlink()
    file = bombs.checkpoint(folder / "pytorch_model.bin", marker)
    return lambda trust: load(str(folder), "KEY"), partial(careless, file)


def code_in_a_folder_of_transformers(folder, marker):
    from densedist.seg.foreign.transformers import load
    from helpers import transformers

    transformers.write("segformer", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.C", "AutoModel": "theirs.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "theirs.py").write_text(f"open({str(marker)!r}, 'w')")
    return lambda trust: load(str(folder), "KEY"), lambda: exec((folder / "theirs.py").read_text())


def pickle_in_a_folder_of_smp(folder, marker):
    from densedist.seg.networks.architectures import read_smp_folder

    arguments = {"_model_class": "Unet", "encoder_name": "resnet18", "classes": 2}
    (folder / "config.json").write_text(json.dumps(arguments))
    file = bombs.checkpoint(folder / "pytorch_model.bin", marker)
    return lambda trust: read_smp_folder(str(folder), "KEY"), partial(careless, file)


def weights_that_timm_loads(folder, marker):
    """Arguments of the architecture go on to timm, which has a name for a file of its own."""
    from densedist.seg.networks.network import build_network

    file = bombs.checkpoint(folder / "timm.pth", marker)
    words = ["MODEL.ENCODER.NAME", "tu-resnet10t", "MODEL.ARGS.checkpoint_path", str(file)]
    return lambda trust: build_network(scenes.config(scenes.STUDENT, *words)), partial(careless, file)


def tag_in_a_config(folder, marker):
    file = folder / "config.yaml"
    file.write_text(f"SEED: !!python/object/apply:os.system ['touch {marker}']\n")
    return lambda trust: scenes.config(file), lambda: yaml.unsafe_load(file.read_text())


def config_that_is_a_program(folder, marker):
    """As Detectron2's LazyConfig takes."""
    file = folder / "config.py"
    file.write_text(f"open({str(marker)!r}, 'w')\nSEED = 1\n")
    return lambda trust: tiny.config(file), lambda: exec(file.read_text())


def tag_in_a_yolo_data_set(folder, marker):
    file = folder / "data.yaml"
    file.write_text(f"names: !!python/object/apply:os.system ['touch {marker}']\n")

    def load(trust):
        from densedist.det.models import load_config

        named = ["DATASETS.YOLO_FORMAT", f"[['theirs', '{file}', 'train']]", "DATASETS.TRAIN", "('theirs',)"]
        load_config(str(tiny.STUDENT), [*tiny.SMALL, *named])

    return load, lambda: yaml.unsafe_load(file.read_text())


FORMS = (
    *(pickle_of_detectron2, pickle_by_another_name, proposals, checkpoint, checkpoint_to_import, torchscript),
    *(pickle_in_a_folder_of_transformers, code_in_a_folder_of_transformers, pickle_in_a_folder_of_smp),
    *(weights_that_timm_loads, tag_in_a_config, config_that_is_a_program, tag_in_a_yolo_data_set),
)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_strangers_file_runs_nothing(tmp_path, form):
    marker, folder = tmp_path / "marker", tmp_path / "theirs"
    folder.mkdir()
    load, careless_load = form(folder, marker)
    with pytest.raises(UserError) as refused:
        load(False)
    assert not marker.exists()
    assert "\n" not in str(refused.value)
    assert careless_load or str(refused.value).endswith(f"can run any program that its author hid in it; {REMEDY}")
    with suppress(Exception):
        (careless_load or partial(load, True))()
    assert marker.exists()  # so the file is what it is meant to be


def test_a_checkpoint_to_go_on_from_lies_in_its_folder(tmp_path):
    """last_checkpoint may say anything."""
    from densedist.common.engine.run_folder import RunCheckpointer

    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere.pth").write_bytes(b"no checkpoint")
    for text in ("../elsewhere.pth", str(tmp_path / "elsewhere.pth")):
        (tmp_path / "run" / "last_checkpoint").write_text(text)
        assert RunCheckpointer(nn.Linear(1, 1), str(tmp_path / "run")).resume() == 0


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha" * 10}">' for n in range(10))


@pytest.mark.parametrize(
    ("declared", "used"), [(ENTITIES, "&e9;"), ('<!ENTITY e SYSTEM "file:///etc/hostname">', "&e;")]
)
def test_entities_of_xml_are_refused(tmp_path, declared, used):
    """Those that grow without end, and those that stand for another file."""
    from densedist.det.data.voc import _objects

    file = tmp_path / "a.xml"
    file.write_text(f"<!DOCTYPE a [{declared}]><annotation><object><name>{used}</name></object></annotation>")
    with pytest.raises(UserError, match=r"a.xml cannot be read as XML: .*(amplification|undefined entity)"):
        _objects(file)


@pytest.mark.parametrize("place", ["../weights.bin", "{folder}/weights.bin", "weights.bin"])
def test_an_onnx_file_reads_nothing_outside_its_folder(tmp_path, place):
    """Its weights may lie in files of their own, which it names."""
    from onnx import TensorProto, helper, save

    file = tmp_path / "model" / "m.onnx"
    file.parent.mkdir()
    for folder in (tmp_path, file.parent):
        (folder / "weights.bin").write_bytes(np.ones(11 * 3, np.float32).tobytes())
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[11, 3, 1, 1])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=place.format(folder=tmp_path))
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, c, 8, 8]) for name, c in (("x", 3), ("y", 11))]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g", kinds[:1], kinds[1:], [weight])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    if place == "weights.bin":
        assert read_program("onnx", str(file), "cpu", False, "KEY").run(torch.ones(1, 3, 8, 8))["y"].max() == 3
    else:
        with pytest.raises(UserError, match=r"m.onnx cannot be read as onnx: .*[Ee]xternal"):
            read_program("onnx", str(file), "cpu", False, "KEY")
