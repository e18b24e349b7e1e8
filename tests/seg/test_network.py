"""SMP models in our hands: raw logits at the right resolution, plain weights, any architecture."""

import re

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F

from densedist.common.errors import UserError
from densedist.seg.architectures import ARCHITECTURES, read_smp_folder
from densedist.seg.network import build_network, load_network
from densedist.seg.taps import nearest, resize
from helpers.scenes import CONFIGS, STUDENT, TEACHER, config

PSPNET = ["MODEL.ARCHITECTURE", "PSPNet", "MODEL.ENCODER.NAME", "resnet18", "MODEL.ENCODER.DEPTH", "5"]


def build(*overrides, file=STUDENT):
    torch.manual_seed(0)
    return build_network(config(file, *overrides)).eval()


def images(*sizes):
    return [torch.randint(0, 256, (3, *size)).to(torch.uint8) for size in sizes]


@pytest.mark.parametrize("name", ["deeplabv3_r101", "deeplabv3_r18", "pspnet_r18"])
def test_cityscapes_networks_run_at_stride_8(name):
    network = build("MODEL.ENCODER.WEIGHTS", "", file=CONFIGS / "cityscapes" / f"{name}.yaml")
    output = network(network.preprocess(images((64, 96))))
    assert output["cls_logits"].shape == output["aux_logits"].shape == (1, 19, 8, 12)


def test_auxiliary_head_sees_the_last_stage_but_one():
    network = build(*PSPNET, "MODEL.ENCODER.OUTPUT_STRIDE", "8", "MODEL.AUX_HEAD.ENABLED", "True")
    batch = network.preprocess(images((64, 96)))
    assert network.aux_head[0].in_channels == 256  # layer3 of a ResNet-18
    wanted = network.aux_head(network.smp.encoder(batch)[-2])
    assert torch.equal(network(batch)["aux_logits"], wanted)


@pytest.mark.parametrize("stride", [8, 16])
def test_logits_are_those_of_the_stock_model_before_its_upsampling(stride):
    """Of a PSPNet too, whose class has no argument for the output stride."""
    network = build(*PSPNET, "MODEL.ENCODER.OUTPUT_STRIDE", stride, "MODEL.ARGS.psp_out_channels", "32")
    stock = smp.PSPNet(
        "resnet18",
        encoder_weights=None,
        encoder_depth=5,
        psp_out_channels=32,
        classes=11,
        output_stride=stride,
        upsampling=stride,
    ).eval()
    assert str(stock.load_state_dict(network.smp.state_dict())) == "<All keys matched successfully>"
    batch = network.preprocess(images((64, 96)))
    logits = network(batch)["cls_logits"]
    assert logits.shape[2:] == (64 // stride, 96 // stride)
    assert torch.allclose(resize(logits, (64, 96)), stock(batch), atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_of_smp_gives_logits(name):
    encoder = ["MODEL.ENCODER.NAME", "resnet18", "MODEL.ENCODER.DEPTH", "5"]
    if name == "DPT":  # for vision transformers only
        encoder = ["MODEL.ENCODER.NAME", "tu-vit_tiny_patch16_224", "MODEL.ENCODER.DEPTH", "4"]
        encoder += ["MODEL.ARGS.dynamic_img_size", "True"]
    network = build("MODEL.ARCHITECTURE", name, *encoder, file=CONFIGS / "digits" / "base.yaml")
    logits = network(network.preprocess(images((128, 150))))["cls_logits"]
    assert logits.shape[:2] == (1, 11)
    assert torch.isfinite(logits).all()


def test_preprocessing_normalizes_and_pads_bottom_and_right():
    network = build("MODEL.PIXEL_MEAN", "[1.0, 2.0, 3.0]", "MODEL.PIXEL_STD", "[2.0, 4.0, 8.0]")
    raw = images((60, 64), (64, 50))
    batch = network.preprocess(raw)
    assert batch.shape == (2, 3, 64, 64)
    mean, std = torch.tensor([1.0, 2, 3]).view(3, 1, 1), torch.tensor([2.0, 4, 8]).view(3, 1, 1)
    assert torch.allclose(batch[0, :, :60], (raw[0] - mean) / std)
    assert not batch[0, :, 60:].any()
    assert not batch[1, :, :, 50:].any()


def test_resize_aligns_corners():
    logits = torch.rand(1, 2, 4, 5)
    resized = resize(logits, (31, 41))
    for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert torch.allclose(resized[..., y, x], logits[..., y, x])
    assert resize(logits, (4, 5)) is logits


def test_nearest_label_lies_where_the_logit_lies():
    rows = torch.arange(33).repeat(33, 1).T[None]
    assert nearest(rows, (5, 5))[0, :, 0].tolist() == [0, 8, 16, 24, 32]


@pytest.mark.parametrize("name", ["PSPNet", "Unet", "DeepLabV3"])
def test_folder_of_save_pretrained_is_a_network(tmp_path, name):
    torch.manual_seed(0)
    stock = smp.create_model(name, "resnet18", encoder_weights=None, classes=11).eval()
    stock.save_pretrained(tmp_path)
    network = load_network(config(TEACHER), str(tmp_path), "--weights").eval()
    assert type(network.smp).__name__ == name
    batch = network.preprocess(images((64, 96)))
    logits = network(batch)["cls_logits"]
    assert torch.allclose(resize(logits, (64, 96)), stock(batch), atol=1e-5)


def test_network_with_its_auxiliary_head_comes_back_from_a_checkpoint(tmp_path):
    keys = [*PSPNET, "MODEL.AUX_HEAD.ENABLED", "True"]
    network = build(*keys)
    file = tmp_path / "w.pth"
    torch.save({"model": network.smp.state_dict(), "aux_head": network.aux_head.state_dict()}, file)
    again = load_network(config(STUDENT, *keys), str(file), "--weights").eval()
    batch = network.preprocess(images((64, 64)))
    for name, logits in network(batch).items():
        assert torch.equal(logits, again(batch)[name])


def test_channels_last_changes_nothing_but_rounding():
    network = build()
    batch = network.preprocess(images((64, 64)))
    wanted = network.smp.to(memory_format=torch.contiguous_format)(batch.contiguous())
    network.smp.to(memory_format=torch.channels_last)
    assert torch.allclose(network(batch)["cls_logits"], wanted, atol=1e-5)
    assert F.mse_loss(network(batch)["cls_logits"], wanted) < 1e-10


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.ARCHITECTURE", "DeepLab", "SMP has no DeepLab; want DPT, DeepLabV3,"),
        ("MODEL.ENCODER.NAME", "resnet19", "Wrong encoder name `resnet19`"),
        ("MODEL.ENCODER.NAME", "tu-resnet19", "resnet19"),
        ("MODEL.ENCODER.OUTPUT_STRIDE", "7", "MODEL.ENCODER.OUTPUT_STRIDE is 7: want 8, 16 or 32"),
        ("MODEL.ARGS.widths", "3", "unexpected keyword argument 'widths'"),
        ("MODEL.PIXEL_MEAN", "[1.0]", "MODEL.PIXEL_MEAN is [1.0]: want three numbers"),
    ],
)
def test_network_that_cannot_be_built(key, value, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        build(key, value)
    assert str(error.value).startswith("MODEL")
    assert "\n" not in str(error.value)


def test_encoder_weights_that_cannot_be_fetched(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def offline(*args, **kwargs):
        raise ConnectionError("the network is down")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", offline)
    with pytest.raises(UserError) as error:
        build(*PSPNET, "MODEL.ENCODER.WEIGHTS", "imagenet")
    seen = str(error.value)
    assert seen.startswith("MODEL.ENCODER.WEIGHTS: cannot get imagenet for resnet18: ConnectionError: the network is")
    assert "leave the key empty for random weights" in seen


def test_weights_that_do_not_fit(tmp_path):
    network = build(*PSPNET)
    torch.save({"model": network.smp.state_dict()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="the weights do not fit the model: "):
        load_network(config(STUDENT), str(tmp_path / "w.pth"), "--weights")
    with pytest.raises(UserError, match="the checkpoint has no aux_head"):
        load_network(config(STUDENT, *PSPNET, "MODEL.AUX_HEAD.ENABLED", "True"), str(tmp_path / "w.pth"), "--weights")


def test_folder_that_smp_did_not_write(tmp_path):
    with pytest.raises(UserError, match=r"--weights: .* is no folder of SMP's save_pretrained"):
        read_smp_folder(str(tmp_path), "--weights")


def test_folder_with_other_classes(tmp_path):
    smp.create_model("Unet", "resnet18", encoder_weights=None, classes=3).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"has 3 classes, DATASETS\.CLASSES 11"):
        load_network(config(STUDENT), str(tmp_path), "--weights")
