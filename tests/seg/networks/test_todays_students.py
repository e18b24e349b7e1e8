"""Students of SMP's transformers and of timm's encoders: one step with DIST and MIMIC, then plain SMP, and exported."""

import json

import pytest
import segmentation_models_pytorch as smp
import torch

import densedist as api
from densedist.seg.networks.resampling import resize
from helpers.scenes import SMALL, STUDENT, save_teacher

SMALL_KEYS = dict(zip(SMALL[::2], SMALL[1::2], strict=True))
# MODEL.ARCHITECTURE, ENCODER.NAME, ENCODER.DEPTH and ARGS
MODELS = {
    "SegFormer": ("Segformer", "mit_b0", 5, {"decoder_segmentation_channels": 16}),
    "UPerNet on ConvNeXt": ("UPerNet", "tu-convnext_atto", 5, {"decoder_channels": 16}),
    "DPT on ViT": ("DPT", "tu-vit_tiny_patch16_224", 4, {"decoder_fusion_channels": 16}),
    "DPT on ConvNeXt": ("DPT", "tu-convnext_atto", 4, {"decoder_fusion_channels": 16}),
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    words = save_teacher(tmp_path_factory.mktemp("teacher"))
    return dict(zip(words[::2], words[1::2], strict=True))


def student(folder, architecture, encoder, depth, arguments):
    """The path of a config."""
    file = folder / "student.yaml"
    model = {"ARCHITECTURE": architecture, "ENCODER": {"NAME": encoder, "DEPTH": depth}, "ARGS": arguments}
    file.write_text(f"_BASE_: {STUDENT.parent}/base.yaml\nMODEL: {json.dumps(model)}\n")
    return str(file)


@pytest.mark.usefixtures("quick_weights")
@pytest.mark.parametrize("name", ["SegFormer", *(pytest.param(n, marks=pytest.mark.slow) for n in [*MODELS][1:])])
def test_a_step_and_a_plain_model(name, teacher, tmp_path):
    file, keys = student(tmp_path, *MODELS[name]), SMALL_KEYS | teacher
    keys |= {"OUTPUT_DIR": tmp_path / "run", "SOLVER.MAX_ITER": 1, "DATASETS.TEST": []}
    api.train(file, keys | {"DISTILL.MIMIC.WEIGHT": 1.0})
    metrics = (tmp_path / "run" / "metrics.json").read_text()
    assert all(f'"loss_{loss}"' in metrics for loss in ("ce", "dist", "mimic"))
    plain = api.load_student(str(tmp_path / "run"))
    assert type(plain) is getattr(smp, MODELS[name][0])
    done = api.export(str(tmp_path / "run"), {"DATASETS.TEST": ["test"]}, formats=["weights"], images=1)
    assert done["failures"] == []
    again = smp.from_pretrained(str(tmp_path / "run" / "export" / "weights")).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(resize(again(image), (64, 64)), resize(plain(image), (64, 64)))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (("UPerNet", "tu-vit_tiny_patch16_224", 4, {}), "UPerNet: ValueError: Unsupported model downsampling pattern"),
        (
            ("DPT", "tu-vit_tiny_patch16_224", 2, {}),
            "DPT: ValueError: encoder_out_channels, encoder_output_strides",
        ),
    ],
)
def test_what_smp_cannot_build_is_one_line(model, reason, teacher, tmp_path):
    with pytest.raises(api.UserError) as error:
        api.train(student(tmp_path, *model), SMALL_KEYS | teacher | {"OUTPUT_DIR": tmp_path / "run"})
    assert str(error.value).startswith(f"MODEL: SMP cannot build this {reason}")
