"""What an imported detector computes, in float64, beside what its source does."""

from pathlib import Path

import torch
from detectron2.structures import Boxes
from torch import nn

from densedist.common.import_checkpoint import import_checkpoint
from densedist.det.models import build, read_config
from densedist.det.task import TASK

SIZE = 96, 128  # of images: multiples of 32, so nobody pads
BOXES = torch.tensor(
    [[3.0, 5.0, 70.0, 60.0], [40.2, 11.7, 52.9, 33.1], [0.0, 0.0, 128.0, 96.0], [90.5, 50.5, 126.0, 95]]
)
RATIOS = 0.5, 1.0, 2.0


def image(seed: int = 0) -> torch.Tensor:
    """A raw RGB image with large and small structures."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 8, generator=generator)
    fine = torch.rand(3, *SIZE, generator=generator)
    return (255 * (0.7 * nn.functional.interpolate(coarse, SIZE)[0] + 0.3 * fine)).to(torch.uint8)


@torch.no_grad()
def as_if_trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random numbers in all tensors, so that a wrong order, epsilon or missing part shows; in eval mode and float64.

    Variances are near the usual epsilon, and the weights of a norm make up for them.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=torch.float64)

    model = model.double().eval()
    for part in model.modules():
        if hasattr(part, "running_var"):
            part.running_var.copy_(random(part.running_var, 1e-4, 1e-3))
            part.running_mean.copy_(random(part.running_mean, -0.2, 0.2) * part.running_var.sqrt())
            part.weight.copy_(random(part.weight, 0.3, 0.9) * part.running_var.sqrt())
            part.bias.copy_(random(part.bias, -0.3, 0.3))
        elif isinstance(part, (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)):
            scale = (3 / part.weight[0].numel()) ** 0.5
            part.weight.copy_(random(part.weight, -scale, scale) * 1.4)
            if part.bias is not None:
                part.bias.copy_(random(part.bias, -0.5, 0.5))
        elif isinstance(part, nn.GroupNorm):
            part.weight.copy_(random(part.weight, 0.5, 1.5))
            part.bias.copy_(random(part.bias, -0.5, 0.5))
    return model


def imported(folder: Path, state: dict, *overrides: str, form: str = "", options: dict | None = None, meta=None):
    """Detectron2's model of a state dict that is written, imported and read again, in float64; and its config."""
    folder.mkdir(exist_ok=True)
    number = len(list(folder.iterdir()))
    file, output = folder / f"{number}.pth", folder / f"{number}_imported"
    torch.save({"state_dict": state, "meta": meta or {}}, file)
    import_checkpoint(TASK, str(file), output, form, options, overrides)
    cfg = read_config(str(output / "config.yaml"), ["MODEL.DEVICE", "cpu"])
    model = build(cfg).double().eval()
    model.load_state_dict(torch.load(output / "model_final.pth", weights_only=True)["model"])
    for name in ("pixel_mean", "pixel_std"):  # which the config gives in full precision
        setattr(model, name, torch.tensor(cfg.MODEL[name.upper()], dtype=torch.float64).view(-1, 1, 1))
    return model, cfg


def maps(model, cfg, rgb):
    raw = rgb if cfg.INPUT.FORMAT == "RGB" else rgb.flip(0)
    return model.backbone(model.preprocess_image([{"image": raw}]).tensor)


@torch.no_grad()
def regions(model, cfg, rgb, boxes=BOXES) -> dict[str, list[torch.Tensor]]:
    """Of an R-CNN: the RPN's maps, and of given boxes what each stage says, where it moves them, and the masks."""
    features, heads, rpn = maps(model, cfg, rgb), model.roi_heads, model.proposal_generator
    boxes = boxes.to(features["p2"].dtype)
    levels = [features[name] for name in heads.box_in_features]
    logits, deltas = rpn.rpn_head([features[name] for name in rpn.in_features])
    pooled = heads.box_pooler(levels, [Boxes64(boxes)])
    cascade = isinstance(heads.box_head, nn.ModuleList)
    pairs = (
        zip(heads.box_head, heads.box_predictor, strict=True) if cascade else [(heads.box_head, heads.box_predictor)]
    )
    said = [(predict(head(pooled)), predict) for head, predict in pairs]
    result = {
        "rpn_logits": logits,
        "rpn_deltas": deltas,
        "logits": [pair[0] for pair, _ in said],
        "deltas": [pair[1] for pair, _ in said],
        "boxes": [predict.box2box_transform.apply_deltas(pair[1], boxes) for pair, predict in said],
    }
    if heads.mask_on:
        result["masks"] = [heads.mask_head.layers(heads.mask_pooler(levels, [Boxes64(boxes)]))]
    return result


class Boxes64(Boxes):
    """Boxes that stay in float64."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


@torch.no_grad()
def dense(model, cfg, rgb, sizes, tolerance: float = 1e-3) -> dict[str, list[torch.Tensor]]:
    """Of a RetinaNet: the output maps of each level, their anchors in the order of the source.

    Args:
        sizes: of the source's anchors at each level, which come by ratio and then by size.
        tolerance: in pixels.
    """
    features = maps(model, cfg, rgb)
    logits, deltas = model.head([features[name] for name in model.head_in_features])
    orders = []
    for ours, level in zip(model.anchor_generator.cell_anchors, sizes, strict=True):
        theirs = torch.tensor([(s / r**0.5, s * r**0.5) for r in RATIOS for s in level])
        far = torch.cdist(theirs.double(), (ours[:, 2:] - ours[:, :2]).double())
        assert far.amin(1).max() < tolerance
        orders.append(far.argmin(1))
        assert len(orders[-1].unique()) == 9

    def ordered(outputs):
        return [x.unflatten(1, (9, -1))[:, order].flatten(1, 2) for x, order in zip(outputs, orders, strict=True)]

    return {"logits": ordered(logits), "deltas": ordered(deltas)}


def differences(ours, theirs) -> dict[str, float]:
    """The largest of each kind of output, over its own largest absolute value."""
    assert ours.keys() == theirs.keys()
    return {
        name: max(_difference(*pair) for pair in zip(ours[name], wanted, strict=True))
        for name, wanted in theirs.items()
    }


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return ((one - other).abs().max() / other.abs().max()).item()


def exact(found: dict[str, float]) -> bool:
    """Whether float64 shows no difference; Detectron2 moves boxes in float32."""
    return found.pop("boxes", 0.0) < 1e-6 and max(found.values()) < 1e-9
