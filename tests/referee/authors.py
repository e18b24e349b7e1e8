"""Segmentation networks by other authors, in the forms in which they hand them on, and what they give by themselves."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import segmentation_models_pytorch as smp
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from helpers.scenes import STUDENT, config

CLASSES = 11  # as many as the student's config has
SIDE = 32
# What each choice may be; the first is usual.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "gives": ("logits", "probabilities", "logarithms", "sigmoids", "numbers", "classes last", "a tuple"),
    "mode": ("eval", "dropout", "batch norms"),
    "precision": ("float32", "float16", "bfloat16", "float64"),
    "batch": ("any", "one"),
    "channels": ("RGB", "BGR"),
    "pixels": ("ImageNet's", "0 to 1", "0 to 255"),
    "classes": (str(CLASSES), "10", "2"),
}
PIXELS = {
    "ImageNet's": ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
    "0 to 1": ([0.0] * 3, [255.0] * 3),
    "0 to 255": ([0.0] * 3, [1.0] * 3),
}


@dataclass(frozen=True)
class Handing:
    """What an author hands on.

    Args:
        form: the name of FORMS.
        varied: choices of CHOICES or of the form that are not as usual.
    """

    form: str
    seed: int = 0
    varied: tuple[tuple[str, str], ...] = ()

    def __getitem__(self, name: str) -> str:
        return dict(self.varied).get(name, {**CHOICES, **WRAPPED}[name][0])


@dataclass(frozen=True)
class Handed:
    """
    Args:
        keys: KEY VALUE of DISTILL.TEACHER that a user gives, as the author's page says.
        truth: class probabilities (K, H, W) of a raw image (3, H, W), 0 to 255, RGB, computed in a precision; None =
            this network gives nothing that a teacher could.
    """

    keys: list[str]
    truth: Callable[[Tensor, torch.dtype], Tensor] | None


class Network(nn.Module):
    """Of three layers, at the image's own size."""

    def __init__(self, handing: Handing) -> None:
        super().__init__()
        torch.manual_seed(handing.seed)
        self.gives, classes = handing["gives"], int(handing["classes"])
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.drop, self.head = nn.Dropout2d(0.5), nn.Conv2d(8, classes, 1)
        with torch.no_grad():
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)
            self.norm.weight.uniform_(0.5, 2)
            self.head.weight.mul_(3)
            if PIXELS[handing["pixels"]][1][0] == 1:  # images of large numbers
                self.conv.weight.div_(100)

    def logits(self, images: Tensor) -> Tensor:
        return self.head(self.drop(self.norm(self.conv(images)).relu()))

    def forward(self, images: Tensor) -> Any:
        return GIVES[self.gives](self.logits(images))


GIVES: Mapping[str, Callable[[Tensor], Any]] = {
    "logits": lambda x: x,
    "probabilities": lambda x: x.softmax(1),
    "logarithms": lambda x: x.log_softmax(1),
    "sigmoids": lambda x: x.sigmoid(),
    "numbers": lambda x: x.argmax(1),
    "classes last": lambda x: x.permute(0, 2, 3, 1),
    "a tuple": lambda x: (x, x.mean((2, 3))),
}
CAN_TEACH = ("logits", "probabilities", "logarithms", "a tuple")


def hand_on(handing: Handing, folder: Path) -> Handed:
    """Write what an author hands on to a folder that is empty."""
    return FORMS[handing.form](handing, folder)


def _truth(network: Any, handing: Handing) -> Callable[[Tensor, torch.dtype], Tensor] | None:
    if handing["gives"] not in CAN_TEACH or handing["mode"] != "eval" or int(handing["classes"]) != CLASSES:
        return None
    exact = copy.deepcopy(network).double().eval()
    mean, std = (torch.tensor(side, dtype=torch.float64).view(3, 1, 1) for side in PIXELS[handing["pixels"]])

    @torch.no_grad()
    def truth(image: Tensor, precision: torch.dtype) -> Tensor:
        turned = image.flip(0) if handing["channels"] == "BGR" else image
        own = copy.deepcopy(exact).to(precision)
        logits = own.logits if isinstance(own, Network) else own
        return logits(((turned.double() - mean) / std)[None].to(precision))[0].double().softmax(0)

    return truth


def _said(handing: Handing) -> list[str]:
    """What the author's page says of images."""
    mean, std = PIXELS[handing["pixels"]]
    words = ["DISTILL.TEACHER.PIXEL_MEAN", str(mean), "DISTILL.TEACHER.PIXEL_STD", str(std)]
    return [*words, "DISTILL.TEACHER.FORMAT", handing["channels"], "DISTILL.TEACHER.STRIDE", "1"]


def _network(handing: Handing) -> Network:
    network = Network(handing).to(getattr(torch, handing["precision"])).eval()
    if handing["mode"] == "dropout":
        network.drop.train()
    if handing["mode"] == "batch norms":
        network.norm.train()
    return network


def _example(handing: Handing) -> Tensor:
    count = 1 if handing["batch"] == "one" else 2
    return torch.rand(count, 3, SIDE, SIDE).to(getattr(torch, handing["precision"]))


def _torch_export(handing: Handing, folder: Path) -> Handed:
    network, dynamic = _network(handing), torch.export.Dim.DYNAMIC
    sizes = {2: dynamic, 3: dynamic} | ({} if handing["batch"] == "one" else {0: dynamic})
    program = torch.export.export(network, (_example(handing),), dynamic_shapes=(sizes,))
    torch.export.save(program, folder / "model.pt2")
    return Handed(["DISTILL.TEACHER.WEIGHTS", str(folder / "model.pt2"), *_said(handing)], _truth(network, handing))


def _torchscript(handing: Handing, folder: Path) -> Handed:
    network = _network(handing)
    torch.jit.trace(network, _example(handing), check_trace=False).save(str(folder / "model.pt"))
    trust = ["MODEL.TRUST_PICKLE", "True", "DISTILL.TEACHER.KIND", "torchscript"]
    keys = ["DISTILL.TEACHER.WEIGHTS", str(folder / "model.pt"), *trust, *_said(handing)]
    return Handed(keys, _truth(network, handing))


def _function(handing: Handing, folder: Path) -> Handed:
    network, name = _network(handing), f"author_{abs(hash(handing)):x}"
    torch.save(network, folder / "network.pth")
    (folder / f"{name}.py").write_text(
        f"import torch\n\n\ndef build():\n    return torch.load({str(folder / 'network.pth')!r}, weights_only=False)\n"
    )
    keys = ["IMPORTS", f"['{folder / name}.py']", "DISTILL.TEACHER.WEIGHTS", f"{name}:build", *_said(handing)]
    # Whoever calls a function puts its module in eval mode himself.
    return Handed(keys, _truth(network, Handing(handing.form, handing.seed, _without_mode(handing))))


def _without_mode(handing: Handing) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in handing.varied if name != "mode")


def _onnx(handing: Handing, folder: Path) -> Handed:
    """Node by node, without PyTorch's exporter."""
    network, kind = _network(handing), getattr(torch, handing["precision"])
    number = {torch.float32: TensorProto.FLOAT, torch.float16: TensorProto.FLOAT16, torch.float64: TensorProto.DOUBLE}
    if kind not in number:  # no runtime on a CPU has it
        return _torch_export(handing, folder)
    values = {name: value.numpy() for name, value in network.state_dict().items() if "tracked" not in name}
    training = int(handing["mode"] == "batch norms")
    norm = [f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    nodes = [
        helper.make_node("Conv", ["images", "conv.weight", "conv.bias"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization", ["a", *norm], ["b", "m", "v"][: 3 if training else 1], training_mode=training
        ),
        helper.make_node("Relu", ["b"], ["c"]),
    ]
    last = "c"
    if handing["mode"] == "dropout":
        values |= {"ratio": np.float32(0.5), "yes": np.bool_(True)}
        nodes.append(helper.make_node("Dropout", ["c", "ratio", "yes"], ["d"]))
        last = "d"
    nodes.append(helper.make_node("Conv", [last, "head.weight", "head.bias"], ["x"]))
    shape = [1 if handing["batch"] == "one" else "N", 3, "H", "W"]
    end = {
        "logits": ("Identity", {}),
        "probabilities": ("Softmax", {"axis": 1}),
        "logarithms": ("LogSoftmax", {"axis": 1}),
        "sigmoids": ("Sigmoid", {}),
        "numbers": ("ArgMax", {"axis": 1, "keepdims": 0}),
        "classes last": ("Transpose", {"perm": [0, 2, 3, 1]}),
        "a tuple": ("Identity", {}),
    }[handing["gives"]]
    nodes.append(helper.make_node(end[0], ["x"], ["y"], **end[1]))
    count, classes = shape[0], int(handing["classes"])
    given = {"numbers": [count, "H", "W"], "classes last": [count, "H", "W", classes]}
    given_kind = TensorProto.INT64 if handing["gives"] == "numbers" else number[kind]
    of_maps = given.get(handing["gives"], [count, classes, "H", "W"])
    outputs = [helper.make_tensor_value_info("y", given_kind, of_maps)]
    if handing["gives"] == "a tuple":
        nodes.append(helper.make_node("GlobalAveragePool", ["x"], ["z"]))
        outputs.append(helper.make_tensor_value_info("z", number[kind], [count, classes, 1, 1]))
    graph = helper.make_graph(
        nodes,
        "author",
        [helper.make_tensor_value_info("images", number[kind], shape)],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "model.onnx"))
    keys = ["DISTILL.TEACHER.WEIGHTS", str(folder / "model.onnx"), *_said(handing)]
    if handing["mode"] == "dropout":  # which onnxruntime leaves out, whatever its mode
        handing = Handing(handing.form, handing.seed, _without_mode(handing))
    return Handed(keys, _truth(network, handing))


# Of checkpoints: what the state lies in, and how its names begin.
WRAPPED: Mapping[str, tuple[str, ...]] = {
    "wrapped": ("model", "nothing", "state_dict", "model_state_dict", "a Lightning module", "DataParallel", "half"),
    "architecture": ("Unet", "FPN", "PSPNet", "DeepLabV3Plus", "Linknet"),
}


def _smp(handing: Handing) -> nn.Module:
    torch.manual_seed(handing.seed)
    size = {"encoder_weights": None, "classes": CLASSES}
    name = handing["architecture"]
    if name in ("Unet", "Linknet"):
        size |= {"encoder_depth": 3} | ({"decoder_channels": (16, 8, 8)} if name == "Unet" else {})
    model = smp.create_model(name, "tu-test_resnet.r160_in1k", **size)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
            if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
                module.weight.uniform_(0.5, 2)
        for parameter in model.segmentation_head.parameters():
            parameter.normal_(std=0.5)
    return model.eval()


def _checkpoint(handing: Handing, folder: Path) -> Handed:
    model, wrapped = _smp(handing), handing["wrapped"]
    if wrapped == "half":
        model = model.half().float()
    state = {name: value.half() if wrapped == "half" and value.is_floating_point() else value
             for name, value in model.state_dict().items()}  # fmt: skip
    prefix = {"a Lightning module": "model.", "DataParallel": "module."}.get(wrapped, "")
    state = {f"{prefix}{name}": value for name, value in state.items()}
    content: Any = {
        "nothing": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model_state_dict": {"model_state_dict": state},
        "a Lightning module": {"state_dict": state, "hyper_parameters": {"lr": 0.1}, "pytorch-lightning_version": "2"},
    }.get(wrapped, {"model": state, "iteration": 9})
    torch.save(content, folder / "model.pth")
    arguments = {"decoder_channels": [16, 8, 8]} if handing["architecture"] == "Unet" else {}
    depth = 3 if handing["architecture"] in ("Unet", "Linknet") else 5
    mean, std = PIXELS[handing["pixels"]]
    if handing["architecture"] == "PSPNet":
        depth = 3
    said = {
        "MODEL": {
            "ARCHITECTURE": handing["architecture"],
            "ENCODER": {"NAME": "tu-test_resnet.r160_in1k", "DEPTH": depth, "OUTPUT_STRIDE": 0},
            "ARGS": arguments,
            "PIXEL_MEAN": mean,
            "PIXEL_STD": std,
        },
        "INPUT": {"FORMAT": handing["channels"]},
        "DATASETS": {"CLASSES": [dict(one) for one in config(STUDENT).DATASETS.CLASSES]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(said))
    words = ["DISTILL.TEACHER.CONFIG_FILE", str(folder / "config.yaml")]
    return Handed([*words, "DISTILL.TEACHER.WEIGHTS", str(folder / "model.pth")], _truth(model, handing))


def _smp_folder(handing: Handing, folder: Path) -> Handed:
    model = _smp(handing)
    model.save_pretrained(str(folder / "smp"))
    return Handed(["DISTILL.TEACHER.WEIGHTS", str(folder / "smp"), *_said(handing)[:-2]], _truth(model, handing))


FORMS: Mapping[str, Callable[[Handing, Path], Handed]] = {
    "torch.export": _torch_export,
    "TorchScript": _torchscript,
    "function": _function,
    "ONNX": _onnx,
    "checkpoint": _checkpoint,
    "folder of SMP": _smp_folder,
}
PROGRAMS = ("torch.export", "TorchScript", "function", "ONNX")
SAME_NETWORK = ("channels", "pixels")  # choices that hold for SMP's networks, too


def choices_of(form: str) -> Mapping[str, tuple[str, ...]]:
    """By name the values that this form may have."""
    if form in PROGRAMS:
        return CHOICES
    wrapped = WRAPPED if form == "checkpoint" else {"architecture": WRAPPED["architecture"]}
    return wrapped | {name: CHOICES[name] for name in SAME_NETWORK}
