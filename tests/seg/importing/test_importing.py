"""Segmentation checkpoints of other projects: the same logits from the imported model."""

import json
import pathlib

import pytest
import segmentation_models_pytorch as smp
import torch
import yaml
from torchvision.models.segmentation import deeplabv3_resnet50, fcn_resnet50

from densedist import api
from densedist.common.errors import UserError
from densedist.common.import_checkpoint import import_checkpoint
from densedist.seg.models import read_config
from densedist.seg.networks.network import load_network
from densedist.seg.task import TASK
from helpers.calling import densedist
from helpers.cirkd import DeepLabHead, Net, PSPHead, ResNet, randomize
from helpers.scenes import CONFIGS, SMALL, STUDENT

pytestmark = pytest.mark.usefixtures("quick_weights")

# Wide enough at stride 8 for a dilation of 36 to reach a pixel.
SIZE = 48, 312
CPU = ["MODEL.DEVICE", "cpu"]
STUDENTS = CONFIGS / "cityscapes" / "pspnet_r18.yaml"
NETS = {
    "deeplab": (DeepLabHead, 32, {}),
    "pspnet": (PSPHead, 24, {}),
    "bottlenecks": (DeepLabHead, 16, {"counts": (3, 4, 6, 3), "bottleneck": True}),
}


def images(seed=0):
    return torch.randint(0, 256, (1, 3, *SIZE), generator=torch.Generator().manual_seed(seed)).double()


def save(model, file, **beside):
    torch.save({"state_dict": model.state_dict(), **beside} if beside else model.state_dict(), file)
    return str(file)


def imported(folder, *overrides):
    """The network of an imported folder, with its auxiliary head, in float64."""
    cfg = read_config(str(folder / "config.yaml"), [*CPU, *overrides])
    return load_network(cfg, str(folder / "model_final.pth"), "--weights").double().eval()


def difference(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("net", NETS)
@torch.no_grad()
def test_networks_of_the_dist_authors(tmp_path, net):
    head, width, more = NETS[net]
    model = randomize(Net(head, width, **more))
    file = save(model, tmp_path / "citys_best_model.pth")
    record = import_checkpoint(TASK, file, tmp_path / "out")
    assert record["source"] == "cirkd"
    assert record["unused"] == {}
    network = imported(tmp_path / "out")
    raw = images()
    mean = torch.tensor([104.00698793, 116.66876762, 122.67891434], dtype=torch.float64).view(3, 1, 1)
    wanted, auxiliary = model.double()(raw - mean)
    found = network(raw - mean)
    assert found["cls_logits"].shape == wanted.shape
    assert difference(found["cls_logits"], wanted) < 1e-12
    assert difference(found["aux_logits"], auxiliary) < 1e-12
    assert (network.preprocess(list(raw)) - (raw - mean)).abs().max() < 1e-5  # which keeps the mean in float32
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["INPUT"]["FORMAT"] == "BGR"


@torch.no_grad()
def test_smps_own_networks_are_others(tmp_path):
    """What the comparison above is worth: it tells SMP's dilation and rates from theirs."""
    model = randomize(Net(DeepLabHead, 16, deep=False))
    import_checkpoint(TASK, save(model, tmp_path / "w.pth"), tmp_path / "out")
    wanted = model.double()(images())[0]
    rates = imported(tmp_path / "out", "MODEL.ARGS.decoder_atrous_rates", "[12, 24, 35]")
    assert difference(rates(images())["cls_logits"], wanted) > 1e-3
    tensors = torch.load(tmp_path / "out" / "model_final.pth")["model"]
    smps = imported(tmp_path / "out")
    cfg = read_config(str(tmp_path / "out" / "config.yaml"), [*CPU, "MODEL.ENCODER.NAME", "resnet18"])
    other = TASK.build(cfg).student.double().eval()
    other.load_state_dict({name.replace("encoder.model.", "encoder."): t for name, t in tensors.items()})
    assert difference(smps(images())["cls_logits"], wanted) < 1e-12
    assert difference(other(images()), wanted) > 1e-3


@torch.no_grad()
def test_torchvisions_deeplabv3(tmp_path):
    model = randomize(deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True))
    record = import_checkpoint(TASK, save(model, tmp_path / "w.pth"), tmp_path / "out")
    assert record["source"] == "torchvision"
    seen = {}
    model.classifier.register_forward_hook(lambda *call: seen.update(logits=call[2]))  # before it is upsampled
    model.aux_classifier.register_forward_hook(lambda *call: seen.update(aux=call[2]))
    model.double()(images() / 255)
    network = imported(tmp_path / "out")
    found = network(images() / 255)
    assert difference(found["cls_logits"], seen["logits"]) < 1e-12
    assert difference(found["aux_logits"], seen["aux"]) < 1e-12
    names = [c["name"] for c in read_config(str(tmp_path / "out" / "config.yaml"), CPU).DATASETS.CLASSES]
    assert names[0] == "background"
    assert len(names) == 21


def test_backbone_to_start_from(tmp_path):
    """It fills the encoder of the recipes' student, and nothing else; no complete model, and refused as one."""
    resnet = randomize(ResNet((2, 2, 2, 2), bottleneck=False, deep=True))
    resnet.add_module("fc", torch.nn.Linear(512, 10))
    file = save(resnet, tmp_path / "resnet18-imagenet.pth")
    record = import_checkpoint(TASK, file, tmp_path / "out")
    import_checkpoint(TASK, file, tmp_path / "voc", base="seg/data/voc.yaml")  # for any number of classes
    assert (record["source"], record["partial"]) == ("cirkd_backbone", True)
    file = str(tmp_path / "out" / "model_final.pth")
    cfg = read_config(str(STUDENTS), [*CPU, "DATASETS.ROOT", "digits"])
    student = TASK.build(cfg).student
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    TASK.load_weights(student, file, "MODEL.WEIGHTS", False)
    changed = {name for name, tensor in student.state_dict().items() if not torch.equal(tensor, before[name])}
    counters = {name for name in before if name.endswith("num_batches_tracked")}
    assert changed == {name for name in before if name.startswith("encoder.")} - counters
    assert torch.equal(student.encoder.model.bn1.running_var, resnet.bn3.running_var)
    with pytest.raises(UserError, match="the weights do not fit the model"):
        TASK.load_model(cfg, file, "--weights")


def test_imported_teacher_teaches(tmp_path, capsys):
    """By the command line, on the small scenes, and written once more in stock form."""
    model = randomize(Net(DeepLabHead, 8, classes=11))
    file, out = save(model, tmp_path / "w.pth"), tmp_path / "teacher"
    densedist("import", "seg", file, "--config-file", STUDENT, "--output-dir", out, *CPU)
    assert f"{out}: {len(model.state_dict())} tensors of cirkd" in capsys.readouterr().out
    method = ["DISTILL.TEACHER.CONFIG_FILE", out / "config.yaml", "DISTILL.TEACHER.WEIGHTS", out / "model_final.pth"]
    words = [*SMALL, "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "['test[:2]']", *method]
    densedist("train", "seg", "--config-file", STUDENT, "OUTPUT_DIR", tmp_path / "run", *words)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.json").read_text().splitlines()]
    assert any(line.get("loss_dist", 0) > 0 for line in lines)
    assert "mIoU" in json.loads((tmp_path / "run" / "results.json").read_text())["sem_seg"]
    densedist("export", "--weights", out, "--format", "weights", "--output-dir", tmp_path / "stock", "--images", "1")
    stock = smp.from_pretrained(str(tmp_path / "stock" / "weights"))
    assert type(stock) is smp.DeepLabV3
    with pytest.raises(SystemExit):
        densedist("import", "seg", "--output-dir", tmp_path / "other")
    assert "give one FILE, not 0" in capsys.readouterr().err


def test_record_says_where_it_came_from(tmp_path):
    model = Net(PSPHead, 8)
    model.pretrained.add_module("fc", torch.nn.Linear(512, 10))
    file = save(model, tmp_path / "w.pth", epoch=7)
    import_checkpoint(TASK, file, tmp_path / "out", "cirkd", overrides=["OUTPUT_DIR", "x"])
    record = json.loads((tmp_path / "out" / "imported.json").read_text())
    assert record["file"] == str((tmp_path / "w.pth").resolve())
    assert len(record["sha256"]) == 64
    assert set(record["unused"]) == {"pretrained.fc.weight", "pretrained.fc.bias"}
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["OUTPUT_DIR"] == "x"


@pytest.mark.parametrize(
    ("change", "words", "wanted"),
    [
        (lambda t: t.pop("head.aspp.b0.0.weight"), {}, "its head is neither of DeepLabV3 nor of PSPNet"),
        (lambda t: t.update({"head.extra.weight": torch.zeros(1)}), {}, "1 of its .* no place here, first head.extra"),
        (lambda t: t.pop("pretrained.layer4.1.bn2.weight"), {}, "do not fit the model: 1 of its"),
        (lambda t: [t.pop(n) for n in list(t) if "layer3.1" in n], {}, "has stages of 2, 2, 1, 2 blocks"),
        (
            lambda t: t.update({n: x[:7] for n, x in t.items() if "head.block.4" in n}),
            {},
            "the file has 7 classes, and nothing that names them: name with --config-file",
        ),
        (lambda t: None, {"base": "seg/data/voc.yaml"}, "the file has 19 classes, and a config with 21: name with"),
        (lambda t: None, {"source": "mmseg"}, "--source: there is no mmseg; want cirkd, cirkd_backbone, torchvision"),
        (lambda t: None, {"options": {"style": "caffe"}}, "--option: cirkd has no style; want none"),
        (lambda t: None, {"overrides": ["MODEL.ARGSS.x", "1"]}, "MODEL.ARGSS"),
        (lambda t: None, {"overrides": ["SEED"]}, "overrides are KEY VALUE pairs, but SEED has no value"),
    ],
)
def test_what_is_refused(tmp_path, change, words, wanted):
    tensors = dict(Net(DeepLabHead, 8).state_dict())
    change(tensors)
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(UserError, match=wanted):
        import_checkpoint(TASK, str(tmp_path / "w.pth"), tmp_path / "out", **words)
    assert not (tmp_path / "out").exists()


def test_form_is_the_former_name_of_source(tmp_path, caplog):
    file = save(Net(PSPHead, 8), tmp_path / "w.pth")
    assert api.import_weights(file, task="seg", form="cirkd", output_dir=tmp_path / "out")["source"] == "cirkd"
    assert "--form (form= in Python) is called --source (source=) now" in caplog.text
    with pytest.raises(UserError) as refused:
        api.import_weights(file, task="seg", form="cirkd", source="torchvision", output_dir=tmp_path / "other")
    assert str(refused.value) == (
        "--form is cirkd, which is called --source now, and --source torchvision: keep --source alone"
    )


def test_trust_is_for_one_file_and_not_for_its_config(tmp_path):
    """What the user trusts once is not what everybody trusts who is given the folder."""
    file = save(Net(PSPHead, 8), tmp_path / "w.pth", author=pathlib.PurePosixPath("x"))
    with pytest.raises(UserError, match=r"if you trust its origin, give MODEL.TRUST_PICKLE True on the command line"):
        import_checkpoint(TASK, file, tmp_path / "out")
    words = ["MODEL.TRUST_PICKLE", "True", "TRUST_IMPORTS", "True"]
    import_checkpoint(TASK, file, tmp_path / "out", overrides=words)
    assert "TRUST" not in (tmp_path / "out" / "config.yaml").read_text()


def test_files_that_are_no_such_checkpoint(tmp_path):
    file = tmp_path / "w.pth"
    with pytest.raises(UserError, match="there is no file"):
        import_checkpoint(TASK, str(file), tmp_path / "out")
    file.write_text("no")
    with pytest.raises(UserError, match=r"w.pth (cannot be read as a checkpoint|holds more than tensors)"):
        import_checkpoint(TASK, str(file), tmp_path / "out")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, file)
    with pytest.raises(UserError, match=r"is of no known source .its first tensor is a.: name one with --source"):
        import_checkpoint(TASK, str(file), tmp_path / "out")
    save(fcn_resnet50(weights=None, weights_backbone=None), file)
    with pytest.raises(UserError, match="as torchvision: its head is not of DeepLabV3"):
        import_checkpoint(TASK, str(file), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(UserError, match=r"--output-dir: .*full has files"):
        import_checkpoint(TASK, str(file), tmp_path / "full")
