"""SMP models in our hands: raw logits at the right resolution, plain weights, any architecture."""

import json
import logging
import re

import pytest
import segmentation_models_pytorch as smp
import torch
from huggingface_hub import constants
from torch.nn import functional as F

from densedist.common.errors import UserError
from densedist.seg.models import load_weights
from densedist.seg.networks.architectures import ARCHITECTURES, read_smp_folder
from densedist.seg.networks.network import build_network, load_network
from densedist.seg.networks.resampling import nearest, resize
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
        ("MODEL.ARCHITECTURE", "DeepLab", "there is no DeepLab; want DISTDeepLabV3, DISTPSPNet, DPT, DeepLabV3,"),
        ("MODEL.ENCODER.NAME", "resnet19", "Wrong encoder name `resnet19`"),
        ("MODEL.ENCODER.NAME", "tu-resnet19", "resnet19"),
        ("MODEL.ENCODER.OUTPUT_STRIDE", "7", "MODEL.ENCODER.OUTPUT_STRIDE is 7: want 8, 16 or 32"),
        ("MODEL.ARGS.widths", "3", "unexpected keyword argument 'widths'"),
        (
            "MODEL.ARGS.activation",
            "sigmoid",
            "activation: leave it out, for losses and predictions want raw",
        ),
        ("MODEL.ARGS.classes", "11", "classes: leave it out, for DATASETS.CLASSES says how many there are"),
        ("MODEL.ARGS.encoder_name", "a", "encoder_name: leave it out, for MODEL.ENCODER.NAME says it"),
        ("MODEL.ARGS.encoder_depth", "4", "encoder_depth: leave it out, for MODEL.ENCODER.DEPTH says it"),
        ("MODEL.ARGS.encoder_weights", "a", "encoder_weights: leave it out, for MODEL.ENCODER.WEIGHTS says it"),
        (
            "MODEL.ARGS.encoder_output_stride",
            "8",
            "output_stride: leave it out, for MODEL.ENCODER.OUTPUT_STRIDE says it",
        ),
        ("MODEL.ARGS.output_stride", "16", "output_stride: leave it out, for MODEL.ENCODER.OUTPUT_STRIDE says it"),
        ("MODEL.ARGS.in_channels", "4", "in_channels: leave it out, for images have three channels, in the order"),
        (
            "MODEL.ARGS.aux_params",
            "avg",
            "aux_params: leave it out, for nothing here uses a classifier beside the mask",
        ),
        ("MODEL.ARGS.upsampling", "8", "upsampling: leave it out, for logits are brought to the images' size"),
        ("MODEL.PIXEL_MEAN", "[1.0]", "MODEL.PIXEL_MEAN is [1.0]: want three numbers"),
    ],
)
def test_network_that_cannot_be_built(key, value, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        build(key, value)
    assert str(error.value).startswith("MODEL")
    assert "\n" not in str(error.value)


def test_classifier_in_a_config_file(tmp_path):
    (tmp_path / "c.yaml").write_text(
        f"_BASE_: {STUDENT}\nMODEL: {{ARGS: {{aux_params: {{classes: 2, pooling: avg}}}}}}\n"
    )
    with pytest.raises(UserError) as error:
        build(file=tmp_path / "c.yaml")
    assert str(error.value) == (
        "MODEL.ARGS.aux_params: leave it out, for nothing here uses a classifier beside the mask; "
        "MODEL.AUX_HEAD.ENABLED adds a dense auxiliary head"
    )


@pytest.mark.parametrize(("key", "value"), [("activation", "None"), ("in_channels", "3"), ("aux_params", "None")])
def test_arguments_that_change_nothing(key, value):
    assert build(*PSPNET, f"MODEL.ARGS.{key}", value).smp.classification_head is None


def test_encoder_weights_that_cannot_be_fetched(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

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


UNET = {"encoder_name": "resnet18", "encoder_depth": 3, "decoder_channels": (16, 8, 8), "encoder_weights": None}


@pytest.mark.parametrize("activation", ["sigmoid", "softmax2d", "identity"])
@pytest.mark.parametrize("name", ["Unet", "DPT"])
def test_logits_of_a_folder_are_raw_whatever_activation_it_names(tmp_path, caplog, name, activation):
    torch.manual_seed(0)
    arguments = UNET
    if name == "DPT":
        arguments = {"encoder_name": "tu-vit_tiny_patch16_224", "embed_dim": 24, "encoder_weights": None}
        arguments |= {"decoder_intermediate_channels": (8, 8, 8, 8), "decoder_fusion_channels": 8}
        arguments |= {"dynamic_img_size": True}
    plain = getattr(smp, name)(**arguments, classes=11).eval()
    active = getattr(smp, name)(**arguments, classes=11, activation=activation)
    active.load_state_dict(plain.state_dict())
    active.save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO, logger="densedist"):
        again = read_smp_folder(str(tmp_path), "--weights")
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(pixels), plain(pixels))
    said = f"{tmp_path}: without its activation {activation}, for losses and predictions want raw logits"
    assert (said in caplog.text) == (activation != "identity")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"in_channels": 4}, "was made with in_channels 4: images have three channels, in the order of INPUT.FORMAT"),
        ({"aux_params": {"classes": 2}}, "was made with aux_params {'classes': 2}: nothing here uses a classifier"),
    ],
)
def test_folder_of_another_kind_of_model(tmp_path, more, message):
    smp.Unet(**UNET, classes=11, **more).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"--weights: {tmp_path} {message}")):
        read_smp_folder(str(tmp_path), "--weights")


def student(*overrides):
    keys = ["MODEL.ARCHITECTURE", "Unet", "MODEL.ENCODER.NAME", "resnet18", "MODEL.ENCODER.DEPTH", "3"]
    return build(*keys, "MODEL.ARGS.decoder_channels", "[16, 8, 8]", *overrides, file=CONFIGS / "digits" / "base.yaml")


def test_student_starts_from_a_folder_of_save_pretrained(tmp_path):
    torch.manual_seed(1)
    stock = smp.Unet(**UNET, classes=11, activation="softmax2d")
    stock.save_pretrained(tmp_path)
    network = student()
    assert not torch.equal(network.smp.encoder.conv1.weight, stock.encoder.conv1.weight)
    load_weights(network.smp, str(tmp_path), "MODEL.WEIGHTS", trust_pickle=False)
    for name, value in stock.state_dict().items():
        assert torch.equal(network.smp.state_dict()[name], value)


def test_student_starts_from_a_file_or_stays_as_it_is(tmp_path):
    network, other = student().smp, student().smp
    torch.nn.init.ones_(other.encoder.conv1.weight)
    encoder = {name: x for name, x in other.state_dict().items() if name.startswith("encoder.")}
    torch.save({"model": encoder}, tmp_path / "part.pth")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    load_weights(network, "", "MODEL.WEIGHTS", trust_pickle=False)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    said = load_weights(network, str(tmp_path / "part.pth"), "MODEL.WEIGHTS", trust_pickle=False)
    assert bool((network.encoder.conv1.weight == 1).all())
    assert said.endswith(" parameters come from it; not decoder, segmentation_head")


def test_student_does_not_start_from_another_encoder(tmp_path):
    """Of which about half fits, as some convolutions have the same name and shape."""
    torch.save({"model": student("MODEL.ENCODER.NAME", "resnet50").smp.state_dict()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"fills \d+% of the model's encoder, want 75% or more"):
        load_weights(student().smp, str(tmp_path / "w.pth"), "MODEL.WEIGHTS", trust_pickle=False)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("Linknet", {"decoder_channels": None}, "holds Linknet, MODEL.ARCHITECTURE is Unet"),
        ("Unet", {"classes": 3}, "has 3 classes, DATASETS.CLASSES 11"),
        (
            "Unet",
            {"decoder_channels": (16, 8, 4)},
            "holds another Unet: 11 tensors are missing or of another shape, first decoder.blocks.2.conv1.0.weight; "
            "take MODEL.ENCODER and MODEL.ARGS from its config.json",
        ),
        ("Unet", {"encoder_name": "resnet34"}, "tensors are missing or of another shape, first encoder.layer1.2.conv1"),
    ],
)
def test_folder_that_does_not_fit_the_student(tmp_path, kind, changes, message):
    arguments = {name: value for name, value in (UNET | {"classes": 11} | changes).items() if value is not None}
    getattr(smp, kind)(encoder_weights=None, **arguments).save_pretrained(tmp_path)
    with pytest.raises(UserError) as error:
        load_weights(student().smp, str(tmp_path), "MODEL.WEIGHTS", trust_pickle=False)
    assert str(error.value).startswith(f"MODEL.WEIGHTS: {tmp_path} ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_weights_to_start_from(tmp_path):
    for weights, message in (
        (tmp_path / "gone.pth", "there is no file"),
        (tmp_path, "is no folder of SMP's save_pretr"),
    ):
        with pytest.raises(UserError, match=f"^MODEL.WEIGHTS: .*{message}"):
            load_weights(student().smp, str(weights), "MODEL.WEIGHTS", trust_pickle=False)


def test_folder_that_smp_did_not_write(tmp_path):
    with pytest.raises(UserError, match=r"--weights: .* is no folder of SMP's save_pretrained"):
        read_smp_folder(str(tmp_path), "--weights")


def test_encoder_weights_of_a_folder_are_not_fetched(tmp_path, monkeypatch):
    """SMP itself fetches those that training started from, though the folder's own take their place."""
    smp.create_model("Unet", "resnet18", encoder_weights=None, classes=11).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"encoder_weights": "imagenet"}))
    fetched = []
    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", lambda **asked: fetched.append(asked))
    network = load_network(config(TEACHER), str(tmp_path), "--weights")
    network.smp.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["encoder_weights"] is None
    assert not fetched


def test_folder_with_other_classes(tmp_path):
    smp.create_model("Unet", "resnet18", encoder_weights=None, classes=3).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"has 3 classes, DATASETS\.CLASSES 11"):
        load_network(config(STUDENT), str(tmp_path), "--weights")
