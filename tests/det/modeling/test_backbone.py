"""timm models as backbones: every norm, every family, every level."""

import pytest
import timm
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from timm.layers import BatchNormAct2d
from torch import nn

from densedist.common.config import saved
from densedist.common.engine import batch_norm
from densedist.common.errors import UserError
from densedist.common.profile import as_if_trained
from densedist.common.run_files import locate
from densedist.det.modeling.backbone import TimmBackbone
from densedist.det.models import build_trainee, load_model, load_trained, plain_model, stock_config
from helpers.processes import run_processes
from helpers.tiny import DIGITS, STUDENT, batch, config, save_teacher

LEVELS = ["res2", "res3", "res4"]
# Of each family one model, and the levels that it has.
WORKING = {
    "resnet18": [2, 3, 4, 5],
    "regnety_002": [2, 3, 4, 5],
    "mobilenetv3_small_050": [2, 3, 4, 5],
    "mobilenetv4_conv_small": [2, 3, 4, 5],
    "efficientnet_b0": [2, 3, 4, 5],
    "convnext_atto": [2, 3, 4, 5],
    "convnextv2_atto": [2, 3, 4, 5],
    "densenet121": [2, 3, 4, 5],
    "vgg11_bn": [2, 3, 4, 5],
    "dla34": [2, 3, 4, 5],
    "swin_tiny_patch4_window7_224": [2, 3, 4, 5],
    "swinv2_tiny_window8_256": [2, 3, 4, 5],
    "mambaout_femto": [2, 3, 4, 5],
    "pvt_v2_b0": [2, 3, 4, 5],
    "efficientvit_b0": [2, 3, 4, 5],
    "poolformer_s12": [2, 3, 4, 5],
    "fastvit_t8": [2, 3, 4, 5],
    "vit_tiny_patch16_224": [4],
}
REFUSED = (
    "maxvit_tiny_tf_224",
    "hiera_tiny_224",
    "efficientformerv2_s0",
    "levit_128s",
    "coat_tiny",
    "inception_v3",
)


def trained(name, norm, levels=LEVELS):
    torch.manual_seed(0)
    return as_if_trained(TimmBackbone(name, levels, norm=norm)).eval()


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv4_conv_small", "regnety_002"])
def test_every_norm_gives_the_same_maps(monkeypatch, name):
    """The last two have their activations inside their batch norms."""
    wanted = trained(name, "BN")
    images = torch.rand(1, 3, 64, 64)
    weights = wanted.state_dict()
    # As with two processes, on GPUs and on CPUs: in one there is nothing to synchronize.
    cases = ("SyncBN", 2, True), ("SyncBN", 2, False), ("SyncBN", 1, False), ("FrozenBN", 1, False)
    for norm, processes, gpu in cases:
        with monkeypatch.context() as here:
            here.setattr(batch_norm.comm, "get_world_size", lambda count=processes: count)
            here.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
            other = TimmBackbone(name, LEVELS, norm=norm).eval()
        assert batch_norm.has_local_batch_norm(other) == (norm == "SyncBN" and processes == 1)
        other.load_state_dict(weights)
        for level, found in other(images).items():
            torch.testing.assert_close(found, wanted(images)[level], rtol=1e-4, atol=1e-5)


def test_frozen_batch_norms_are_in_no_optimizer():
    model = TimmBackbone("mobilenetv4_conv_small", LEVELS, norm="FrozenBN").train()
    assert not [name for name, _ in model.named_parameters() if ".bn" in name]
    before = {name: value.clone() for name, value in model.named_buffers()}
    sum(x.sum() for x in model(torch.rand(2, 3, 64, 64)).values()).backward()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_norm_of_a_model_without_batch_norm():
    with pytest.raises(UserError, match=r"^MODEL\.TIMM\.NORM is FrozenBN, but convnext_atto has no batch norm: leave"):
        TimmBackbone("convnext_atto", LEVELS, norm="FrozenBN")


def _share(rank, count):
    """Values 0 and 4 in the one process, 2 and 6 in the other: mean 3, variance 5."""
    norm = BatchNormAct2d(1, momentum=1.0, eps=0.0, act_layer=nn.ReLU)
    synced = batch_norm.synchronize_batch_norm(nn.Sequential(norm)).train()
    assert not batch_norm.has_local_batch_norm(synced)
    found = synced(torch.tensor([0.0, 4.0]).reshape(2, 1, 1, 1) + 2 * rank)
    wanted = [[0, 1 / 5**0.5], [0, 3 / 5**0.5]][rank]
    assert found.flatten().tolist() == pytest.approx(wanted, abs=1e-6)
    assert synced[0].running_mean.item() == pytest.approx(3)


def test_batch_norms_with_an_activation_are_synchronized_on_a_cpu():
    run_processes(2, _share)


@pytest.fixture
def on_meta(monkeypatch):
    """No weight is made and no number computed."""
    create = timm.create_model

    def as_shapes(name, **options):
        with torch.device("meta"):
            return create(name, **options)

    monkeypatch.setattr(timm, "create_model", as_shapes)


@pytest.mark.parametrize("name", WORKING)
def test_families_that_work(on_meta, name):
    levels = [f"res{level}" for level in WORKING[name]]
    backbone = TimmBackbone(name, levels)
    maps = backbone.eval()(torch.empty(2, 3, 160, 224, device="meta"))
    for level, shape in backbone.output_shape().items():
        assert shape.stride == 2 ** int(level[3:])
        assert maps[level].shape == (2, shape.channels, 160 // shape.stride, 224 // shape.stride)


@pytest.mark.parametrize("name", REFUSED)
def test_families_that_are_refused(on_meta, name):
    levels = ["res4", "res5"]
    with pytest.raises(UserError) as error:
        TimmBackbone(name, levels)
    assert str(error.value).startswith(f"MODEL.TIMM.NAME: {name} does not take images of any size (")
    assert "\n" not in str(error.value)


def test_stride_that_is_no_power_of_two(on_meta):
    with pytest.raises(UserError, match=r"MODEL\.FPN\.IN_FEATURES: convmixer_768_32 has no map of .*, not res2"):
        TimmBackbone("convmixer_768_32", ["res2"])


def test_channels_last_and_one_size_train():
    """Values: the maps are timm's own, turned; images of any size go through."""
    size = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
    backbone = TimmBackbone("swin_tiny_patch4_window7_224", LEVELS, args=size).eval()
    images = torch.rand(1, 3, 96, 160)
    own = backbone.model(images)
    for x, found in zip(own, backbone(images).values(), strict=True):
        assert torch.equal(found, x.movedim(-1, 1))
    assert [tuple(x.shape[-2:]) for x in backbone(images).values()] == [(24, 40), (12, 20), (6, 10)]


RETINANET = [
    *("MODEL.BACKBONE.NAME", "build_timm_retinanet_fpn_backbone", "MODEL.FPN.IN_FEATURES", "['res3', 'res4', 'res5']"),
    *("MODEL.RETINANET.IN_FEATURES", "['p3', 'p4', 'p5', 'p6', 'p7']"),
    *("MODEL.ANCHOR_GENERATOR.SIZES", "[[32], [64], [128], [256], [512]]"),
]


def test_retinanet_has_two_more_levels():
    cfg = config(DIGITS / "retinanet_r10_quarter.yaml", *RETINANET)
    backbone = build_model(cfg).backbone
    assert {name: shape.stride for name, shape in backbone.output_shape().items()} == {
        f"p{level}": 2**level for level in (3, 4, 5, 6, 7)
    }
    maps = backbone(torch.rand(1, 3, 128, 128))
    last = backbone.bottom_up(torch.rand(1, 3, 128, 128))["res5"]
    assert [x.shape[-1] for x in maps.values()] == [16, 8, 4, 2, 1]
    assert backbone.top_block.p6.in_channels == last.shape[1]


def test_retinanet_trains_on_two_more_levels():
    model = build_model(config(DIGITS / "retinanet_r10_quarter.yaml", *RETINANET)).train()
    with EventStorage():
        losses = model(batch())
        sum(losses.values()).backward()
    assert model.backbone.top_block.p7.weight.grad.isfinite().all()


def test_student_starts_from_the_numbers_that_it_had_before():
    """The trial draws no random number."""
    torch.manual_seed(0)
    backbone = build_model(config(STUDENT)).backbone
    options = dict(features_only=True, **config(STUDENT).MODEL.TIMM.ARGS)
    torch.manual_seed(0)
    timm.create_model("resnet18", **options)
    own = timm.create_model("resnet18", out_indices=(1, 2, 3), **options)
    for name, value in own.state_dict().items():
        assert torch.equal(value, backbone.bottom_up.model.state_dict()[name])


@pytest.fixture
def downloads(monkeypatch):
    """Names of the timm models whose weights were asked for; there is no network."""
    create, asked = timm.create_model, []

    def offline(name, pretrained=False, **options):
        if pretrained:
            asked.append(name)
            raise OSError("no network")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    return asked


def test_start_from_weights_of_timm_that_cannot_be_had(downloads):
    with pytest.raises(UserError) as error:
        build_trainee(config(STUDENT, "MODEL.TIMM.PRETRAINED", "True"))
    assert str(error.value).startswith("MODEL.TIMM.PRETRAINED: cannot get the weights of resnet18: ")
    assert downloads == ["resnet18"]


def test_weights_of_timm_are_not_asked_for_where_a_checkpoint_has_all(downloads, tmp_path):
    pretrained = ["MODEL.TIMM.PRETRAINED", "True"]
    cfg = config(STUDENT, *pretrained)
    model = as_if_trained(build_model(config(STUDENT)))
    torch.save({"model": model.state_dict()}, tmp_path / "w.pth")
    (tmp_path / "config.yaml").write_text(saved(cfg))
    cfg.freeze()
    load_model(cfg, str(tmp_path / "w.pth"), "--weights")  # eval
    trained = load_trained(locate(str(tmp_path / "w.pth"), str(tmp_path / "config.yaml")))  # predict, export, profile
    plain_model(trained.model, cfg)  # examples.png
    assert not stock_config(cfg).MODEL.TIMM.PRETRAINED
    teacher = save_teacher(tmp_path / "teacher")
    content = (tmp_path / "teacher" / "config.yaml").read_text()
    assert content.count("PRETRAINED: false") == 1
    (tmp_path / "teacher" / "config.yaml").write_text(content.replace("PRETRAINED: false", "PRETRAINED: true"))
    build_trainee(config(STUDENT, *teacher))
    assert not downloads
