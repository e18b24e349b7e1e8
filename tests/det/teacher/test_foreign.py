"""A teacher that another project builds: a function of a file of IMPORTS, under its own name, with its own keys."""

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY

from densedist.common.config import load
from densedist.common.errors import UserError
from densedist.det.config import GRAMMAR
from densedist.det.taps.rois import live_class_logits
from helpers.tiny import STUDENT, TEACHER, batch, build_student, config, save_teacher

FILE = '''
import torch
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY, build_model

from densedist.det import add_distill_config


@META_ARCH_REGISTRY.register()
def {name}(_):
    """What the other project has: a config with keys that nobody else knows, and a trained model."""
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.MODEL.THEIR_OWN_KEY = 3
    cfg.merge_from_file("{folder}/config.yaml")
    model = build_model(cfg)
    if {trained}:
        model.load_state_dict(torch.load("{folder}/weights.pth", weights_only=True)["model"])
    return model
'''


@pytest.fixture
def foreign(tmp_path):
    """The overrides that make a student learn from it; the same teacher in this suite's own way."""
    usual = save_teacher(tmp_path)
    made = []

    def write(name, trained=True):
        made.append(name)
        (tmp_path / f"{name}.py").write_text(FILE.format(name=name, folder=tmp_path, trained=trained))
        text = f"_BASE_: {TEACHER}\nIMPORTS: [{name}.py]\nMODEL: {{META_ARCHITECTURE: {name}}}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
        keys = ["DISTILL.TEACHER.CONFIG_FILE", str(tmp_path / f"{name}.yaml"), "TRUST_IMPORTS", "True"]
        return keys, usual

    yield write
    for name in made:
        META_ARCH_REGISTRY._obj_map.pop(name, None)


def loss(keys):
    torch.manual_seed(0)
    student = build_student(load(GRAMMAR, str(STUDENT), ["MODEL.DEVICE", "cpu", *keys])).train()
    with torch.no_grad():
        inputs = [x["image"] for x in batch()]
        boxes = [x["instances"].gt_boxes for x in batch()]
        return live_class_logits(student.distillation.teacher, inputs, [boxes])[0]


def test_it_teaches_as_if_it_were_ours(foreign):
    keys, usual = foreign("build_what_is_theirs")
    torch.testing.assert_close(loss(keys), loss(usual), rtol=0, atol=0)


def test_it_has_to_be_trained(foreign):
    keys, _ = foreign("build_untrained", trained=False)
    with pytest.raises(UserError, match=r"DISTILL.TEACHER.CONFIG_FILE: build_untrained: \w+ was never trained"):
        build_student(config(STUDENT, *keys))


def test_a_class_still_needs_its_weights(tmp_path):
    keys = save_teacher(tmp_path)
    with pytest.raises(UserError, match=r"DISTILL.TEACHER.WEIGHTS is empty: give the trained model's weights"):
        build_student(config(STUDENT, *keys[:2]))
