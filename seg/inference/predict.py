"""Pictures and labels of a trained segmentation model for any images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from densedist.common.data.headers import memory
from densedist.common.data.images import decode, find_images, unique_names
from densedist.common.data.videos import counted, redraw, split_videos
from densedist.common.errors import UserError
from densedist.common.logging import on_terminal
from densedist.common.run_files import Weights
from densedist.common.run_names import PREDICTIONS
from densedist.seg.data.frames import bare_frames
from densedist.seg.data.reading import Reader
from densedist.seg.drawing import draw_legend, lighter, overlay, to_rgb, write
from densedist.seg.labels import Classes
from densedist.seg.legend import Legend
from densedist.seg.models import Trained, load_trained
from densedist.seg.segmenter import predict


def predict_images(student: Weights, images: Sequence[str], output: Path, score: float | None) -> list[dict[str, Any]]:
    """Write what the model makes of each image.

    NAME.png is the image under the colors of legend.png, with the classes that occur below it; labelIds/NAME.png holds
    labelIds, and has the image's size; predictions.json is a list of {"file_name", "label_ids": file, "share": {class:
    of the pixels, in [0, 1]}}.
    Of a video NAME.mp4 shows its frames so, and predictions.json has {"file_name", "frame": from 0, "share"} of each.

    Args:
        images: files, videos among them, and folders.
        score: None: it is for detectors.

    Returns:
        what predictions.json holds.

    Raises:
        UserError: a wrong image, or wrong weights.
    """
    refuse_score(score)
    stills, videos = split_videos(images)
    found = find_images(stills) if stills or not videos else {}
    others = ["legend", *(f"labelIds/{name}" for name in found)]  # which images of an earlier output are named like
    files = dict(zip(unique_names(list(found), others), found.values(), strict=True))
    trained = load_trained(student)
    classes, channels = trained.classes, trained.cfg.INPUT.FORMAT
    read, results = Reader(classes, channels), []
    for frame in tqdm(bare_frames(files), "predicting", disable=not on_terminal()):
        decode(Path(frame["image"]))
        image = read(frame)["image"]
        refuse_whole(trained, image.shape[1:], frame["image"])
        labels = predict(trained.model, image)
        label_ids = output / "labelIds" / f"{frame['name']}.png"
        write(label_ids, classes.label_ids[labels])
        share = shares(labels, classes)
        rgb = to_rgb(image, channels)
        legend = Legend(classes.names, classes.colors, rgb.shape[1])
        write(output / f"{frame['name']}.png", legend.below(_painted(rgb, labels, classes), [*share.values()]))
        results.append({"file_name": frame["image"], "label_ids": str(label_ids), "share": share})
    names = unique_names([file.stem for file in videos], ["legend", *files])
    for name, file in zip(names, videos, strict=True):
        frames: list[dict[str, float]] = []

        def draw(rgb: np.ndarray) -> np.ndarray:
            pixels = np.ascontiguousarray((rgb if channels == "RGB" else rgb[..., ::-1]).transpose(2, 0, 1))
            refuse_whole(trained, rgb.shape[:2], str(file))  # noqa: B023, it is called at once
            labels = predict(trained.model, torch.from_numpy(pixels))
            frames.append(shares(labels, classes))  # noqa: B023
            legend = Legend(classes.names, classes.colors, rgb.shape[1])
            return legend.below_frame(_painted(rgb, labels, classes), [*frames[-1].values()])  # noqa: B023

        redraw(file, output / f"{name}.mp4", draw)
        results += [{"file_name": str(file), "frame": n, "share": share} for n, share in enumerate(frames)]
    draw_legend(classes.names, classes.colors, output / "legend.png")
    (output / PREDICTIONS).write_text(json.dumps(results, indent=1) + "\n")
    print(f"{counted(len(files), len(videos))}; pictures, labelIds and {PREDICTIONS}: {output}")
    return results


def _painted(rgb: np.ndarray, labels: np.ndarray, classes: Classes) -> np.ndarray:
    return overlay(lighter(rgb), labels, classes.colors)


def refuse_whole(trained: Trained, size: Sequence[int], file: str) -> None:
    """Refuse an image of height and width that the memory does not hold when it is seen at once.

    Raises:
        UserError: naming TEST.WINDOW_SIZE.
    """
    height, width = size
    # Image, logits and probabilities in float32, and what the first layer gives at the least: 16 maps, half as wide.
    needed = height * width * 4 * (3 + 2 * len(trained.classes) + 8)
    if trained.model.inference.window is None and needed > memory():
        raise UserError(
            f"{file} has {width}x{height} pixels, which need {needed / 1e9:.0f} GB or more at once, but the memory has "
            f"{memory() / 1e9:.0f} GB: set TEST.WINDOW_SIZE, e.g. to [512,512]"
        )


def refuse_score(score: float | None) -> None:
    """Refuse a --score-threshold (UserError)."""
    if score is not None:
        raise UserError("--score-threshold is for detectors: leave it out")


def shares(labels: np.ndarray, classes: Classes) -> dict[str, float]:
    """Return the share of each class in trainIds (H, W), in [0, 1]."""
    counts = np.zeros(len(classes), np.int64)
    for row in labels:  # to count, NumPy makes eight bytes of each pixel
        counts += np.bincount(row, minlength=len(classes))
    return {name: count / labels.size for name, count in zip(classes.names, counts.tolist(), strict=True)}
