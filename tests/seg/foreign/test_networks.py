"""Teachers that somebody else has built: models of transformers, programs, functions of one's own."""

import json
import re
import sys
from functools import partial
from inspect import getsource

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import EfficientNetImageProcessor, MobileViTImageProcessor

from densedist.common.config import load
from densedist.common.distill.distiller import describe
from densedist.common.distill.taps import Tap
from densedist.common.errors import UserError
from densedist.common.extras import how_to_install
from densedist.common.runtimes import RUNTIMES
from densedist.seg.config import GRAMMAR
from densedist.seg.foreign.transformers import load as load_transformers
from densedist.seg.models import build_segmenter, load_model
from densedist.seg.teacher_loading import load_teacher
from helpers import transformers
from helpers.calling import complaint, densedist
from helpers.scenes import SMALL, STUDENT, batch, config, save_teacher

WEIGHTS, FORM = "DISTILL.TEACHER.WEIGHTS", "DISTILL.TEACHER.KIND"
IMAGES = [sample["image"] for sample in batch()]
NORMALIZED = {"mean": [100.0, 110.0, 120.0], "std": [50.0, 60.0, 70.0]}
PIXELS = [
    *("DISTILL.TEACHER.PIXEL_MEAN", str(NORMALIZED["mean"]), "DISTILL.TEACHER.PIXEL_STD", str(NORMALIZED["std"])),
    *("DISTILL.TEACHER.FORMAT", "BGR", "DISTILL.TEACHER.STRIDE", "16"),
]


class Small(nn.Module):
    """A network of a few layers: logits at a quarter of the size."""

    def __init__(self, classes=11):
        super().__init__()
        torch.manual_seed(3)
        self.stem, self.head = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, classes, 1)

    def forward(self, x):
        return self.head(self.stem(x).relu())


def logits_of(teacher, size=(16, 16), images=IMAGES):
    return teacher.output(images, {"cls_logits": torch.zeros(len(images), 11, *size)}, (64, 64))["cls_logits"]


def by_small():
    """What Small gives for RGB images that it wants in BGR."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in NORMALIZED.values())
    return Small()(torch.stack([(image.flip(0) - mean) / std for image in IMAGES]))


def at_corners(logits, size=(16, 16)):
    """Maps whose places lie in the middle of equal parts of 64 pixels, at places with corners on corner pixels."""
    where = [(torch.linspace(0, 63, n) + 0.5) / 32 - 1 for n in size]
    grid = torch.stack(torch.meshgrid(*where, indexing="ij")[::-1], -1).expand(len(logits), -1, -1, -1)
    return F.grid_sample(logits, grid, padding_mode="border", align_corners=False)


def write_torch_export(folder, model=None, dynamic=True):
    sizes = ({0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(
        (model or Small()).eval(), (torch.zeros(2, 3, 64, 96),), dynamic_shapes=sizes if dynamic else None
    )
    torch.export.save(program, folder / "model.pt2")
    return folder / "model.pt2"


def write_torchscript(folder):
    torch.jit.trace(Small().eval(), torch.zeros(1, 3, 64, 64)).save(str(folder / "model.pt"))
    return folder / "model.pt"


def write_onnx(folder):
    program = torch.export.load(write_torch_export(folder))
    torch.onnx.export(program, input_names=["images"], external_data=False, opset_version=18).save(
        str(folder / "model.onnx")
    )
    return folder / "model.onnx"


def write_function(folder):
    file = folder / "their_teacher.py"
    file.write_text(
        f"import torch\nfrom torch import nn\n\n\n{getsource(Small)}\n\ndef build():\n    return Small().eval()\n"
    )
    return file


@pytest.fixture
def source(request, tmp_path):
    """The overrides that name Small in a form."""
    form = request.param
    if form == "function":
        return ["IMPORTS", f"['{write_function(tmp_path)}']", WEIGHTS, "their_teacher:build", *PIXELS]
    file = {"torch_export": write_torch_export, "torchscript": write_torchscript, "onnx": write_onnx}[form](tmp_path)
    trust = ["MODEL.TRUST_PICKLE", "True", FORM, "torchscript"] if form == "torchscript" else []
    return [WEIGHTS, str(file), *PIXELS, *trust]


FORMS = ["torch_export", "torchscript", "onnx", "function"]


@pytest.mark.parametrize("source", FORMS, indirect=True)
@torch.no_grad()
def test_programs_and_functions_give_what_their_model_gives(source):
    seen = logits_of(load_teacher(config(STUDENT, *source)))
    torch.testing.assert_close(seen, at_corners(by_small()), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", transformers.KINDS)
@torch.no_grad()
def test_models_of_transformers(tmp_path, kind):
    """The logits of the model itself; of queries, the scores by the formula in float64."""
    model = transformers.write(kind, tmp_path)
    network = load_transformers(str(tmp_path), WEIGHTS).eval()
    assert network.names == tuple(transformers.NAMES)
    pixels = transformers.normalized(IMAGES)
    torch.testing.assert_close(network.preprocess(IMAGES), pixels, rtol=0, atol=1e-5)
    theirs, seen = model(pixels), network(pixels)
    logits = seen["cls_logits"]
    if kind == "mask2former":
        classes = theirs.class_queries_logits.double().softmax(-1)[:, :, :-1]
        masks = theirs.masks_queries_logits.double().sigmoid()
        scores = (classes[:, :, :, None, None] * masks[:, :, None]).sum(1)
        wanted = scores / scores.sum(1, keepdim=True)
        torch.testing.assert_close(logits.double().softmax(1), wanted, rtol=1e-4, atol=1e-6)
    else:
        assert (logits - theirs.logits).abs().max() <= 1e-4 * theirs.logits.abs().max()
    assert seen["features"].shape[2:] == (2, 2)


def test_segformers_features_are_its_last_stage(tmp_path):
    model = transformers.write("segformer", tmp_path)
    network = load_transformers(str(tmp_path), WEIGHTS).eval()
    pixels = transformers.normalized(IMAGES)
    with torch.no_grad():
        wanted = model(pixels, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(network(pixels)["features"], wanted, rtol=1e-4, atol=1e-5)


def trains(tmp_path, *overrides):
    """Two iterations and an evaluation from the command line; the losses of the last."""
    words = [*map(str, SMALL), "SOLVER.MAX_ITER", "2", "OUTPUT_DIR", tmp_path / "out", "MODEL.DEVICE", "cpu"]
    small = ["DATASETS.TEST", "['val']", "REHEARSAL", "False"]
    densedist("train", "seg", "--config-file", STUDENT, *words, *small, *overrides)
    losses = json.loads((tmp_path / "out" / "metrics.json").read_text().splitlines()[1])
    assert "mIoU" in json.loads((tmp_path / "out" / "results.json").read_text())["sem_seg"]
    return losses


@pytest.mark.parametrize("source", FORMS, indirect=True)
def test_student_learns_from_programs_and_functions(tmp_path, source):
    assert trains(tmp_path, *source)["loss_dist"] > 0


def test_student_learns_from_a_folder_of_transformers(tmp_path):
    transformers.write("mask2former", tmp_path / "teacher")
    keys = [WEIGHTS, str(tmp_path / "teacher"), "DISTILL.MIMIC.WEIGHT", "0.1"]
    losses = trains(tmp_path, *keys)
    assert losses["loss_dist"] > 0
    assert losses["loss_mimic"] > 0


def test_foreign_model_is_evaluated_and_labels_by_a_config(tmp_path, capsys):
    """The config says what it is, and beside --config-file the folder is the weights."""
    transformers.write("segformer", tmp_path / "model")
    file = tmp_path / "model.yaml"
    file.write_text(f"_BASE_: {STUDENT}\nMODEL: {{FORM: transformers}}\n")
    words = ["--config-file", file, "--weights", tmp_path / "model", *SMALL, "OUTPUT_DIR", tmp_path / "out"]
    densedist("eval", "seg", *words)
    assert (tmp_path / "out" / "results.json").is_file()
    words = ["--config-file", file, "--weights", tmp_path / "model", "--output-dir", tmp_path / "labels"]
    densedist("label", "seg", *words, *SMALL, "DATASETS.UNLABELED", "['val[:2]']")
    assert len(list((tmp_path / "labels" / "gtFine").rglob("*_labelIds.png"))) == 2
    told = complaint(capsys, "train", "seg", "--config-file", file, *SMALL)
    assert "MODEL.KIND is transformers: such a model can only teach: set it to smp" in told


@torch.no_grad()
def test_own_export_wants_raw_pixels(tmp_path):
    """It normalizes by itself, and says what its classes are and which channel comes first."""

    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            self.small = Small()

        def forward(self, images):
            return self.small(images / 255.0)

    model = Raw()
    sizes = ({0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    example = torch.zeros(2, 3, 64, 96, dtype=torch.uint8)
    program = torch.export.export(model, (example,), dynamic_shapes=sizes)
    about = {"input": "images: uint8 (N, 3, H, W)", "classes": transformers.NAMES, "channels": "RGB"}
    torch.export.save(program, tmp_path / "model.pt2", extra_files={"model.json": json.dumps(about)})
    torch.onnx.export(program, input_names=["images"], external_data=False, opset_version=18).save(
        str(tmp_path / "model.onnx")
    )
    RUNTIMES["onnx"].write(tmp_path / "model.onnx", tmp_path / "model.onnx", about)
    wanted = at_corners(model(torch.stack(IMAGES)))
    for name in ("model.pt2", "model.onnx"):
        teacher = load_teacher(config(STUDENT, WEIGHTS, tmp_path / name))
        torch.testing.assert_close(logits_of(teacher), wanted, rtol=0, atol=1e-4)
    refused(r"TEACHER.STRIDE: .*model.pt2 contains it", WEIGHTS, tmp_path / "model.pt2", *PIXELS[-2:])
    with pytest.raises(UserError, match=r"INPUT.FORMAT is BGR, but DISTILL.TEACHER.WEIGHTS: .* wants RGB"):
        load_teacher(config(STUDENT, WEIGHTS, tmp_path / "model.pt2", "DISTILL.TEACHER.FORMAT", "BGR"))


def refused(message, *overrides):
    with pytest.raises(UserError, match=message):
        build_segmenter(config(STUDENT, *overrides))


def test_functions_may_use_the_names_of_torchvision(tmp_path):
    file = write_function(tmp_path)
    file.write_text(
        file.read_text().replace(
            "return self.head(self.stem(x).relu())", 'return {"out": self.head(self.stem(x).relu())}'
        )
    )
    teacher = load_teacher(config(STUDENT, "IMPORTS", f"['{file}']", WEIGHTS, "their_teacher:build", *PIXELS))
    torch.testing.assert_close(logits_of(teacher), at_corners(by_small()))


@pytest.mark.parametrize("source", ["torch_export"], indirect=True)
def test_what_a_program_does_not_give_is_refused_by_name(source):
    refused(r"DISTILL.MIMIC needs features, which this pair does not have", *source, "DISTILL.MIMIC.WEIGHT", "1.0")
    refused(r"PRECISION is float16, but a program keeps its own", *source, "DISTILL.TEACHER.PRECISION", "float16")


def test_auxiliary_head_has_no_counterpart_in_a_program(tmp_path):
    """The loss on class logits goes on without it."""
    keys = [WEIGHTS, str(write_torch_export(tmp_path)), *PIXELS, "MODEL.AUX_HEAD.ENABLED", "True"]
    student = build_segmenter(config(STUDENT, *keys))
    assert [term.tap for term in student.distillation.distiller.terms] == ["cls_logits"]
    assert "  teacher  ProgramModel, number of parameters unknown\n" in describe(student, student.distillation)


def test_files_that_cannot_teach_are_refused_in_one_line(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    refused(r"broken.onnx cannot be read as onnx", WEIGHTS, broken)
    refused(r"there is no file .*gone.pt2", WEIGHTS, tmp_path / "gone.pt2")
    script = write_torchscript(tmp_path)
    refused(
        r"can run any program .* give MODEL.TRUST_PICKLE True on the command line", WEIGHTS, script
    )  # seen, whatever its name
    fixed = write_torch_export(tmp_path, dynamic=False)
    refused(r"model.pt2 fails on images \(1, 3, 64, 64\)", WEIGHTS, fixed, *PIXELS)
    few = write_torch_export(tmp_path, Small(classes=5))
    refused(r"the student has 11 classes, the teacher 5: map them in DISTILL.TEACHER.CLASSES", WEIGHTS, few, *PIXELS)
    refused(r"there is no function their:build: name its module", WEIGHTS, "their:build")
    mine = ["IMPORTS", f"['{write_function(tmp_path)}']", WEIGHTS]
    refused(r"their_teacher has no function bild", *mine, "their_teacher:bild")
    refused(r"there is no file or folder gone$", WEIGHTS, "gone")
    torch.save({"model": {}}, tmp_path / "weights.pt")
    refused(r"CONFIG_FILE is empty: name the teacher's config", WEIGHTS, tmp_path / "weights.pt")
    refused(r"STD is \[0.2, 0.2, 0.2\]: want deviations", WEIGHTS, few, "DISTILL.TEACHER.PIXEL_STD", "[0.2,0.2,0.2]")


def test_folders_of_transformers_that_cannot_teach(tmp_path):
    write = partial(transformers.write, "segformer")
    write(tmp_path / "bare", processor=False)
    refused(r"bare has no preprocessor_config.json", WEIGHTS, tmp_path / "bare")
    write(tmp_path / "names", names=[*"abcdefghijk"])
    refused(r"class 0 is background in the student's|class 0 is 0 in the student's", WEIGHTS, tmp_path / "names")
    write(tmp_path / "other")
    described = json.loads((tmp_path / "other" / "config.json").read_text())
    text = json.dumps(described | {"architectures": ["SegformerForImageClassification"]})
    (tmp_path / "other" / "config.json").write_text(text)
    refused(r"other holds SegformerForImageClassification: want one", WEIGHTS, tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(json.dumps(described | {"decoder_hidden_size": 24}))
    refused(r"other: \d+ tensors of its SegformerForSemanticSegmentation are missing", WEIGHTS, tmp_path / "other")


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_folders_in_half_precision_are_read_in_float32(tmp_path, dtype):
    model = transformers.write("segformer", tmp_path, dtype=dtype)
    teacher = load_teacher(config(STUDENT, WEIGHTS, tmp_path))
    assert {parameter.dtype for parameter in teacher.model.parameters()} == {torch.float32}
    pixels = transformers.normalized(IMAGES)
    torch.testing.assert_close(teacher.model(pixels)["cls_logits"], model(pixels).logits, rtol=1e-4, atol=1e-5)
    half = load_teacher(config(STUDENT, WEIGHTS, tmp_path, "DISTILL.TEACHER.PRECISION", "bfloat16"))
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}


def changed(file, **keys):
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def test_blanks_around_names_are_no_other_classes(tmp_path):
    blank = [f" {name} " if number % 2 else name for number, name in enumerate(transformers.NAMES)]
    transformers.write("segformer", tmp_path, names=blank)
    assert load_transformers(str(tmp_path), WEIGHTS).names == tuple(transformers.NAMES)
    load_teacher(config(STUDENT, WEIGHTS, tmp_path))
    load_teacher(config(STUDENT, WEIGHTS, tmp_path, "DISTILL.TEACHER.CLASSES.3", "['3 ']"))


@torch.no_grad()
def test_processors_that_turn_the_channels_are_obeyed(tmp_path):
    """As MobileViT's, which does not normalize."""
    model = transformers.write("segformer", tmp_path)
    MobileViTImageProcessor().save_pretrained(tmp_path)
    network = load_transformers(str(tmp_path), WEIGHTS).eval()
    assert (network.channels, network.mean.flatten().tolist()) == ("BGR", [0.0] * 3)
    bgr = torch.stack([image.flip(0) / 255 for image in IMAGES])
    seen = logits_of(load_teacher(config(STUDENT, WEIGHTS, tmp_path)))
    torch.testing.assert_close(seen, at_corners(model(bgr).logits), rtol=1e-4, atol=1e-5)
    refused(r"INPUT.FORMAT is RGB, but .* wants BGR", WEIGHTS, tmp_path, "DISTILL.TEACHER.FORMAT", "RGB")


def test_processors_that_do_more_to_pixels_are_refused(tmp_path):
    """EfficientNet's can take 1 off after the division."""
    transformers.write("segformer", tmp_path)
    EfficientNetImageProcessor(rescale_factor=1 / 127.5, rescale_offset=True).save_pretrained(tmp_path)
    refused(r": preprocessor_config.json changes pixels by more than do_rescale, do_normalize and", WEIGHTS, tmp_path)


def test_class_that_transformers_did_not_train_is_named(tmp_path, caplog):
    transformers.write("segformer", tmp_path)
    changed(tmp_path / "config.json", semantic_loss_ignore_index=3)
    load_transformers(str(tmp_path), WEIGHTS)
    assert "was trained without its class 2 (semantic_loss_ignore_index is 3), so its output for" in caplog.text


def test_labels_without_a_name_are_no_names(tmp_path):
    transformers.write("segformer", tmp_path, names=[f"LABEL_{number}" for number in range(11)])
    assert load_transformers(str(tmp_path), WEIGHTS).names == ()


def test_classes_in_another_order_are_no_such_config(tmp_path, caplog):
    """Of a model that is evaluated or labels."""
    key, form = "--weights", ["MODEL.KIND", "transformers"]
    transformers.write("segformer", tmp_path / "a", names=[*transformers.NAMES[1:], "background"])
    with pytest.raises(UserError) as error:
        load_model(config(STUDENT, *form), str(tmp_path / "a"), key)
    assert str(error.value) == (
        f"--weights: {tmp_path}/a has background as its class 10, DATASETS.CLASSES as class 0: put DATASETS.CLASSES "
        "into its order"
    )
    transformers.write("segformer", tmp_path / "b", names=["none", *transformers.NAMES[1:]])
    load_model(config(STUDENT, *form), str(tmp_path / "b"), key)
    assert "b calls class 0 none, DATASETS.CLASSES background: they are taken to be the same" in caplog.text


def test_transformers_may_be_missing(tmp_path, monkeypatch):
    transformers.write("segformer", tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused(re.escape(f"install it by {how_to_install('transformers')}"), WEIGHTS, tmp_path)


def test_function_of_a_config_beside_weights_is_not_run(tmp_path, capsys):
    """Only what IMPORTS names is called, and that is the user's to allow."""
    refused(r"there is no function os:getcwd: name its module", WEIGHTS, "os:getcwd")
    told = complaint(capsys, "train", "seg", "--config-file", STUDENT, *SMALL, WEIGHTS, "os:getcwd")
    assert "there is no function os:getcwd" in told


def wider(names):
    return [{"name": name, "ids": [number], "color": [0, 0, number]} for number, name in enumerate(names)]


@torch.no_grad()
def test_classes_of_another_teacher(tmp_path):
    """Sums by group; pixels where the known classes have too little are left out."""
    names = [*transformers.NAMES, "sky", "more of 3"]
    keys = save_teacher(tmp_path, "DATASETS.CLASSES", str(wider(names)), "DATASETS.IGNORED_IDS", "[]")
    plain = load_teacher(load(GRAMMAR, str(tmp_path / "config.yaml"), [*keys, "MODEL.DEVICE", "cpu"]))
    places = {"cls_logits": torch.zeros(2, 11, 8, 8)}
    probabilities = plain.output(IMAGES, places, (64, 64))["cls_logits"].double().softmax(1)
    wanted = probabilities[:, :11].clone()
    wanted[:, 4] += probabilities[:, 12]  # the first is the background
    mass = wanted.sum(1)
    half = f"{mass.median().item() + 1e-6:.6f}"  # which about half of the pixels have
    mapped = [*keys, "DISTILL.TEACHER.CLASSES.3", "['3', 'more of 3']", "DISTILL.TEACHER.KEPT_MASS", half]
    teacher = load_teacher(config(STUDENT, *mapped))
    maps, seen = teacher.begin([{"image": image} for image in IMAGES]).at(places, (64, 64))
    assert set(maps) == {"cls_logits"}
    torch.testing.assert_close(maps["cls_logits"].double().softmax(1), wanted / mass[:, None], rtol=1e-4, atol=1e-6)
    assert torch.equal(seen["cls_logits"], mass >= float(half))
    assert 0 < seen["cls_logits"].float().mean() < 1
    refused(r"the student has 11 classes, the teacher 13|class 0 is", *keys)


def test_a_class_that_the_teacher_does_not_know_is_compared_by_nobody(tmp_path):
    names = transformers.NAMES[:-1]  # without 9
    keys = save_teacher(tmp_path, "DATASETS.CLASSES", str(wider(names)), "DATASETS.IGNORED_IDS", "[]")
    refused(r"DISTILL.TEACHER.CLASSES: 9 has no counterpart", *keys, "DISTILL.TEACHER.CLASSES.0", "['0']")
    model = build_segmenter(config(STUDENT, *keys, "DISTILL.TEACHER.MISSING_CLASSES", "leave_out"))
    assert model.distillation.distiller.terms[0].columns == tuple(range(10))
    student = torch.randn(2, 11, 8, 8, requires_grad=True)
    taps = {"cls_logits": Tap([student], [torch.randn(2, 11, 8, 8)])}
    loss = model.distillation.distiller(taps)["loss_dist"]
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient[:, :10].abs().sum() > 0
    assert gradient[:, 10].abs().sum() == 0


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_teacher_sees_another_scale_at_the_same_places(tmp_path, scale):
    """A network whose logits are the pixel's brightness: of a ramp, they stay the ramp's."""

    class Brightness(nn.Module):
        def forward(self, x):
            return F.avg_pool2d(x.mean(1, keepdim=True), 4).expand(-1, 11, -1, -1)

    ramp = torch.arange(64.0).expand(3, 64, 64)
    program = write_torch_export(tmp_path, Brightness())
    keys = [
        WEIGHTS,
        program,
        "DISTILL.TEACHER.PIXEL_MEAN",
        "[0.0,0.0,0.0]",
        "DISTILL.TEACHER.PIXEL_STD",
        "[1.0,1.0,1.0]",
    ]
    teacher = load_teacher(config(STUDENT, *keys, "DISTILL.TEACHER.INPUT_SCALE", scale))
    inside = slice(12, -12)  # nearer to the border the first place has a part, of pixels that the resizing cut off
    seen = logits_of(teacher, (64, 64), [ramp])[0, 0, inside, inside]
    torch.testing.assert_close(seen, ramp[0, inside, inside], rtol=0, atol=1e-3)


@torch.no_grad()
def test_probabilities_of_several_teachers_are_averaged(tmp_path):
    """Of different strides, channel orders and normalizations, each in its own way."""
    first = save_teacher(tmp_path / "first")
    second = save_teacher(tmp_path / "second", "INPUT.FORMAT", "BGR", "MODEL.PIXEL_MEAN", "[104.0, 116.7, 122.7]")
    more = [{"CONFIG_FILE": second[1], "WEIGHTS": second[3]}]
    both = [*first, "DISTILL.TEACHER.MORE", str(more)]
    teacher = load_teacher(config(STUDENT, *both))
    places = {"cls_logits": torch.zeros(2, 11, 8, 8)}
    alone = [
        load_teacher(config(STUDENT, *keys)).output(IMAGES, places, (64, 64))["cls_logits"].double().softmax(1)
        for keys in (first, second)
    ]
    seen = teacher.output(IMAGES, places, (64, 64))["cls_logits"].double().softmax(1)
    torch.testing.assert_close(seen, (alone[0] + alone[1]) / 2, rtol=1e-4, atol=1e-6)
    refused(r"DISTILL.MIMIC needs features, which this pair does not have", *both, "DISTILL.MIMIC.WEIGHT", "1.0")
    refused(r"unknown config key DISTILL.TEACHER.WEIGTHS", *first, "DISTILL.TEACHER.MORE", "[{'WEIGTHS': 'a.pth'}]")
    refused(r"INPUT_SCALE is -1.0: want", *first, "DISTILL.TEACHER.MORE", "[{'INPUT_SCALE': -1.0}]")
    refused(r"MORE: CACHE is for all teachers together", *first, "DISTILL.TEACHER.MORE", "[{'CACHE': 'a'}]")
