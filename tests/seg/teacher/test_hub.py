"""DISTILL.TEACHER.WEIGHTS may be the id of an SMP model on Hugging Face's hub. No test asks the hub."""

import shutil

import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import torch

from densedist.common.distill.teacher_files import on_hub, with_teacher
from densedist.common.errors import UserError
from densedist.common.profile import as_if_trained
from densedist.seg.config import GRAMMAR, get_cfg
from densedist.seg.models import build_segmenter
from densedist.seg.teacher_loading import load_teacher
from helpers.scenes import STUDENT, config

NAME = "somebody/unet-11"
KEYS = ["DISTILL.TEACHER.CONFIG_FILE", "", "DISTILL.TEACHER.WEIGHTS"]


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """The folder of the model NAME in a cache of Hugging Face's, which is all that there is."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    commit, folder = "0" * 40, tmp_path / "models--somebody--unet-11"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    torch.manual_seed(0)
    model = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(16, 8, 8), classes=11)
    as_if_trained(model).save_pretrained(folder / "snapshots" / commit)
    return folder / "snapshots" / commit


def test_its_network_is_that_of_the_folder(snapshot):
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    ours = load_teacher(config(STUDENT, *KEYS, NAME)).in_float32()
    same = load_teacher(config(STUDENT, *KEYS, snapshot)).in_float32()
    with torch.no_grad():
        seen = [one.eval()(one.preprocess([image]))["cls_logits"] for one in (ours, same)]
    torch.testing.assert_close(*seen, rtol=0, atol=0)
    assert build_segmenter(config(STUDENT, *KEYS, NAME)).distillation is not None


def test_a_pickle_is_never_read(snapshot):
    (snapshot / "model.safetensors").unlink()
    (snapshot / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UserError, match=r"^DISTILL\.TEACHER\.WEIGHTS: .* is no folder of SMP's save_pretrained: "):
        load_teacher(config(STUDENT, *KEYS, NAME))


def test_what_the_hub_does_not_give_is_one_line(snapshot):
    shutil.rmtree(snapshot)
    with pytest.raises(UserError) as error:
        load_teacher(config(STUDENT, *KEYS, NAME))
    message = str(error.value)
    assert message.startswith(
        f"DISTILL.TEACHER.WEIGHTS: there is no file or folder {NAME}, and Hugging Face's hub does not give it: "
    )
    assert "\n" not in message


@pytest.mark.parametrize(
    ("weights", "config_file", "known"),
    [
        (NAME, "", True),
        (NAME, "teacher.yaml", False),
        ("output/teacher.pth", "", False),
        ("output/teacher.onnx", "", False),
        ("output/deep/teacher", "", False),
        ("teacher", "", False),
        ("/teacher", "", False),
        ("../teacher", "", False),
        ("", "", False),
    ],
)
def test_only_what_can_be_no_path_is_an_id(weights, config_file, known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = get_cfg()
    cfg.DISTILL.TEACHER.WEIGHTS, cfg.DISTILL.TEACHER.CONFIG_FILE = weights, config_file
    assert on_hub(cfg.DISTILL.TEACHER) == known
    assert (with_teacher(cfg, GRAMMAR.keys()) is not None) == known  # a path that is gone is left out of pictures
    (tmp_path / NAME).mkdir(parents=True)
    assert not on_hub(cfg.DISTILL.TEACHER)
