"""What a foreign network's trial finds: other outputs than logits, and outputs that depend on more than the image."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from densedist.common.errors import UserError
from densedist.common.foreign.programs import Program
from densedist.seg.foreign.load import FunctionModel, load_foreign
from densedist.seg.foreign.programs import ProgramModel
from densedist.seg.foreign.trial import try_out
from helpers.scenes import STUDENT, config

SIZE = (64, 96)


class Net(nn.Module):
    """Logits at a quarter of the size, and after them what somebody has put there."""

    def __init__(self, after=lambda logits: logits):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm, self.head, self.after = (
            nn.Conv2d(3, 8, 3, 4, 1),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 5, 1),
            after,
        )

    def forward(self, x):
        return self.after(5 * self.head(self.norm(self.stem(x)).relu()))


def tried(module, size=SIZE, says="it"):
    network = FunctionModel(module, [120.0] * 3, [60.0] * 3, 8)
    try_out(network, size, says)
    return network


def pixels(count=2):
    return [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(n)) * 255 for n in range(count)]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_of_probabilities_the_logarithms_are_taken(dtype, caplog):
    """The softmax of what is then given are the probabilities, as far as their precision goes."""
    caplog.set_level("INFO")
    network = tried(Net(lambda logits: logits.softmax(1).to(dtype)).eval())
    assert "it gives class probabilities: their logarithms are taken as logits" in caplog.text
    assert network.identity == ("log of cls_logits",)  # a cache of the probabilities themselves is another one
    batch = network.preprocess(pixels())
    wanted = Net().eval()(batch).softmax(1)
    found = network(batch)["cls_logits"]
    assert found.dtype == dtype
    slack = 1e-6 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found.float().softmax(1), wanted, rtol=0, atol=slack)


@torch.no_grad()
@pytest.mark.parametrize(
    "after", [lambda x: x, lambda x: x.log_softmax(1), lambda x: 0.5 + 0 * x], ids=["", "log", "="]
)
def test_logits_stay_what_they_are(after):
    network, module = tried(Net(after).eval()), Net(after).eval()
    batch = network.preprocess(pixels())
    assert torch.equal(network(batch)["cls_logits"], module(batch))
    assert network.identity == ()


def test_an_auxiliary_map_may_be_probabilities_by_itself():
    network = tried(Net(lambda x: {"out": x, "aux": x.softmax(1)}).eval())
    assert network.probabilities == ["aux_logits"]


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (
            torch.sigmoid,
            "it gives numbers of 0 to 1 whose sum over the classes is not 1, like sigmoids: want logits before them",
        ),
        (
            lambda x: F.one_hot(x.argmax(1), 5).movedim(-1, 1).float(),
            "it gives only 0 and 1, like class numbers: want logits, without the argmax",
        ),
        (
            lambda x: x.argmax(1),
            "it gives (1, 16, 24) for images (1, 3, 64, 96), torch.int64, as class numbers: want logits (N, classes, "
            "h, w), without the argmax",
        ),
        (
            lambda x: x.argmax(1, keepdim=True),
            "it gives (1, 1, 16, 24) for images (1, 3, 64, 96), torch.int64, as class numbers: want logits (N, "
            "classes, h, w), without the argmax",
        ),
        (
            lambda x: x.movedim(1, -1),
            "it gives (1, 16, 24, 5) for images (1, 3, 64, 96), with classes last: want logits (N, classes, h, w)",
        ),
        (lambda x: x.mean((2, 3)), "it gives (1, 5) for images (1, 3, 64, 96): want logits (N, classes, h, w)"),
        (lambda x: x / 0, "it gives logits that are not finite"),
        (
            lambda x: F.dropout(x, 0.1, training=True),
            "it gives other logits for the same image each time, as with dropout in training mode: put it in eval "
            "mode, by model.eval()",
        ),
    ],
    ids=["sigmoid", "one-hot", "argmax", "argmax of one channel", "classes last", "one vector", "inf", "dropout"],
)
def test_what_no_student_can_learn_from_is_refused(after, message):
    with pytest.raises(UserError) as refused:
        tried(Net(after).eval())
    assert str(refused.value) == message


@pytest.mark.parametrize("size", [SIZE, (256, 512)])
def test_batch_norms_in_training_mode_are_found(size):
    with pytest.raises(UserError) as refused:
        tried(Net().train(), size)
    assert str(refused.value).startswith(
        "it gives other logits for an image alone and in a batch, as with batch norms in "
    )


def of(model, example, **options):
    return torch.export.export(model, (example,), **options)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_program_for_one_image_of_one_size_sees_a_batch_image_by_image(dtype, tmp_path):
    """As torch.onnx.export makes them by default. Its images are given in the type that it wants."""
    torch.export.save(of(Net().eval().to(dtype), torch.zeros(1, 3, *SIZE, dtype=dtype)), tmp_path / "a.pt2")
    cfg = config(STUDENT, "MODEL.KIND", "torch_export", "MODEL.STRIDE", "8")
    network = load_foreign(cfg, str(tmp_path / "a.pt2"), "--weights", SIZE)
    batch = network.preprocess(pixels(3))
    wanted = Net().eval()(batch)
    torch.testing.assert_close(network(batch)["cls_logits"], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.zeros(2, 64, 96, 3), "its images (any, 64, 96, 3) have their channels last: want (N, 3, H, W)"),
        (torch.zeros(2, 1, 64, 96), "its input is (any, 1, 64, 96): want images (N, 3, H, W)"),
        (torch.zeros(2, 3, 64, 96).int(), "its images are torch.int32: want uint8 or floating-point numbers"),
    ],
    ids=["channels last", "gray", "int32"],
)
def test_programs_of_other_inputs_are_refused(example, message, tmp_path):
    class Any(nn.Module):
        def forward(self, x):
            return x * 2

    program = of(Any(), example, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, tmp_path / "a.pt2")
    with pytest.raises(UserError) as refused:
        load_foreign(config(STUDENT, "MODEL.KIND", "torch_export"), str(tmp_path / "a.pt2"), "--weights", SIZE)
    assert str(refused.value) == f"--weights: {tmp_path}/a.pt2: {message}"


def test_description_of_a_stranger_breaks_nothing():
    """What is no list of names is none."""
    for classes in (5, {"a": 1}, None, "road"):
        program = Program(lambda images: images, "digest", description={"classes": classes})
        assert ProgramModel(program, [0.0] * 3, [1.0] * 3, 8, "it").names == ()
