"""Small segmentation configs and batches."""

from pathlib import Path

import cv2
import numpy as np
import torch

from densedist.common.config import load, saved
from densedist.common.profile import as_if_trained
from densedist.seg.config import GRAMMAR
from densedist.seg.networks.network import build_network

CONFIGS = Path(__file__).parents[2] / "configs" / "seg"
STUDENT = CONFIGS / "digits" / "pspnet_r10_quarter.yaml"
TEACHER = CONFIGS / "digits" / "deeplabv3_r18.yaml"
SMALL = [
    "REHEARSAL",
    "False",
    "MODEL.DEVICE",
    "cpu",
    "SOLVER.IMS_PER_BATCH",
    "2",
    "DATALOADER.NUM_WORKERS",
    "0",
    "INPUT.CROP_SIZE",
    "[64,64]",
    "TEST.EXAMPLES",
    "0",
]


def config(file, *overrides):
    return load(GRAMMAR, str(file), [*SMALL, *map(str, overrides)])


def save_teacher(folder, *overrides, file=TEACHER):
    """Config and weights of a random teacher: the overrides that make a student learn from it."""
    small = ["MODEL.ARGS.decoder_channels", "16"] if file == TEACHER else []
    cfg = config(file, *small, *overrides)
    torch.manual_seed(1)
    network = as_if_trained(build_network(cfg))
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(saved(cfg))
    content = {"model": network.smp.state_dict()}
    if network.aux_head is not None:
        content["aux_head"] = network.aux_head.state_dict()
    torch.save(content, folder / "weights.pth")
    return [
        *("DISTILL.TEACHER.CONFIG_FILE", str(folder / "config.yaml")),
        *("DISTILL.TEACHER.WEIGHTS", str(folder / "weights.pth")),
    ]


def batch(count=2, seed=0, size=(64, 64), classes=11, ignored=0.2):
    generator = torch.Generator().manual_seed(seed)
    result = []
    for _ in range(count):
        image = torch.randint(0, 256, (3, *size), generator=generator).to(torch.uint8)
        label = torch.randint(0, classes, size, generator=generator)
        label[torch.rand(size, generator=generator) < ignored] = 255
        result.append({"image": image, "sem_seg": label})
    return result


def write_tree(root, split="train", count=2, size=(40, 56), ids=(7, 8, 0), labels=True, seed=0):
    """A data set in Cityscapes' format, with random labelIds."""
    rng = np.random.default_rng(seed)
    for kind, suffix, shape in (("leftImg8bit", "leftImg8bit", (*size, 3)), ("gtFine", "gtFine_labelIds", size)):
        if kind == "gtFine" and not labels:
            continue
        folder = root / kind / split / "town"
        folder.mkdir(parents=True)
        for index in range(count):
            values = rng.integers(0, 256, shape) if kind == "leftImg8bit" else rng.choice(ids, shape)
            cv2.imwrite(str(folder / f"town_000000_{index:06}_{suffix}.png"), values.astype(np.uint8))
    return root
