"""Images of any size, for every encoder: padded to what the model needs, or refused when it is built."""

import json
import logging

import cv2
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from densedist.common.errors import UserError
from densedist.seg.inference.deployed import Deployed
from densedist.seg.models import wrap
from densedist.seg.networks.architectures import read_smp_folder
from densedist.seg.networks.network import build_network
from helpers.calling import densedist
from helpers.scenes import CONFIGS, batch, config, save_teacher

BASE = CONFIGS / "digits" / "base.yaml"
DPT = {"MODEL.ARCHITECTURE": "DPT", "MODEL.ENCODER.DEPTH": 4, "MODEL.ENCODER.NAME": "tu-vit_tiny_patch16_224"}
DPT |= {"MODEL.ARGS.embed_dim": 24, "MODEL.ARGS.decoder_fusion_channels": 8}
DPT |= {"MODEL.ARGS.decoder_intermediate_channels": [8, 8, 8, 8]}
SWIN = {"MODEL.ARCHITECTURE": "FPN", "MODEL.ENCODER.NAME": "tu-swin_tiny_patch4_window7_224"}
SWIN |= {"MODEL.ARGS.embed_dim": 12, "MODEL.ARGS.decoder_pyramid_channels": 8}
SWIN |= {"MODEL.ARGS.decoder_segmentation_channels": 32, "MODEL.ARGS.depths": [1, 1, 1, 1]}


def words(keys):
    return [word for pair in keys.items() for word in pair]


def segmenter(keys, **changes):
    torch.manual_seed(0)
    cfg = config(BASE, *words(keys | changes))
    return wrap(build_network(cfg), cfg)


def vit(patch, depth=4):
    more = {"MODEL.ENCODER.NAME": f"tu-vit_small_patch{patch}_224", "MODEL.ENCODER.DEPTH": depth}
    return DPT | more | {"MODEL.ARGS.decoder_intermediate_channels": [8] * depth}


@pytest.mark.parametrize(
    ("keys", "divisor"),
    [(DPT, 32), (vit(8), 32), (vit(16, 3), 16), (vit(32, 3), 32), (SWIN, 32)],
    ids=["patch 16", "patch 8", "patch 16, three stages", "patch 32", "swin"],
)
def test_images_are_padded_to_what_the_model_needs(keys, divisor):
    model = segmenter(keys)
    assert model.network.divisor == divisor
    samples = batch(2, size=(50, 61))
    assert model.network.preprocess([samples[0]["image"]]).shape[2:] == (64, 64)
    loss = model.train()(samples)["loss_ce"]
    assert torch.isfinite(loss)
    model.eval()
    with torch.no_grad():
        for size in ((50, 61), (33, 97), (7, 130)):
            image = batch(1, size=size)[0]["image"]
            seen = model([{"image": image}])[0]["sem_seg"]
            assert seen.shape == (11, *size)
            deployed = Deployed(model.network)(image[None])[0]
            torch.testing.assert_close(deployed.softmax(0), seen, rtol=0, atol=1e-5)


def test_encoder_of_one_size_says_what_it_was_given(caplog):
    with caplog.at_level(logging.INFO, logger="densedist"):
        segmenter(DPT)
    assert "tu-vit_tiny_patch16_224 gets dynamic_img_size, so that it takes images of any size" in caplog.text


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"MODEL.ARGS.dynamic_img_size": "False"}, "tu-vit_tiny_patch16_224 is for images of 224x224"),
        (
            {"MODEL.ENCODER.NAME": "tu-beit_base_patch16_224", "MODEL.ARGS.num_heads": 2},
            "tu-beit_base_patch16_224 is for images of 224x224",
        ),
    ],
)
def test_encoder_that_stays_of_one_size_is_refused(changes, wanted):
    with pytest.raises(UserError) as error:
        segmenter(DPT, **changes)
    assert str(error.value) == (
        f"MODEL.ENCODER.NAME: {wanted}, and fails on others: AssertionError: Input height (64) doesn't match model "
        "(224).; want an encoder for images of any size"
    )


def test_folder_of_an_encoder_of_one_size(tmp_path):
    arguments = {"embed_dim": 24, "decoder_intermediate_channels": (8, 8, 8, 8), "decoder_fusion_channels": 8}
    stock = smp.DPT("tu-vit_tiny_patch16_224", encoder_weights=None, classes=11, **arguments).eval()
    stock.save_pretrained(tmp_path)
    model = read_smp_folder(str(tmp_path), "--weights")
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(model(images), stock(images))
        assert model(torch.rand(1, 3, 32, 96)).shape == (1, 11, 32, 96)
    smp.DPT("tu-beit_base_patch16_224", encoder_weights=None, num_heads=2, **arguments).save_pretrained(tmp_path)
    message = r"^--weights: the encoder of .* is for images of 224x224, and fails on others: .* want an encoder for"
    with pytest.raises(UserError, match=message):
        read_smp_folder(str(tmp_path), "--weights")


def test_exported_folder_says_which_sizes_it_takes(tmp_path):
    save_teacher(tmp_path, *words(DPT), file=BASE)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 50, 3), 99, np.uint8))
    densedist(
        *("export", "--weights", tmp_path / "weights.pth", "--config-file", tmp_path / "config.yaml"),
        *("--format", "weights", "--image-folder", tmp_path, "--output-dir", tmp_path),
    )
    said = json.loads((tmp_path / "weights" / "model.json").read_text())
    assert "; H and W are multiples of 32, after padding with 0 at the right and the bottom" in said["input"]
