"""A trained detector on images, one by one as Detectron2's DefaultPredictor has it, in boxes and pictures."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from torch import nn
from tqdm import tqdm

from densedist.common.data.images import decode, find_images, unique_names
from densedist.common.data.videos import counted, redraw, split_videos
from densedist.common.errors import UserError
from densedist.common.labeling import SCORE, check_score
from densedist.common.logging import on_terminal
from densedist.common.run_files import Weights
from densedist.common.run_names import PREDICTIONS
from densedist.common.words import some
from densedist.det.data.reading import as_input, read_input
from densedist.det.drawing import draw_instances
from densedist.det.modeling.augmented import augmented
from densedist.det.models import load_trained


def predict_images(student: Weights, images: Sequence[str], output: Path, score: float | None) -> list[dict[str, Any]]:
    """Write one PNG for each image, a video of each video, and predictions.json.

    Args:
        images: files, videos among them, and folders.
        score: boxes below are left out; None = SCORE.

    Returns:
        what predictions.json holds: see entries.

    Raises:
        UserError: a wrong image, wrong weights, or a score out of range.
    """
    stills, videos = split_videos(images)
    files = find_images(stills) if stills or not videos else {}
    score = check_score(SCORE if score is None else score)
    thresholds = [
        word for head in ("ROI_HEADS", "RETINANET") for word in (f"MODEL.{head}.SCORE_THRESH_TEST", str(score))
    ]
    trained = load_trained(replace(student, overrides=[*thresholds, *student.overrides]))
    model = augmented(trained.cfg, trained.model)
    results: list[dict[str, Any]] = []
    for number, (name, file) in enumerate(tqdm(files.items(), "predicting", disable=not on_terminal())):
        decode(file)
        sample, image = read_input(trained.cfg, file)
        found = predict(model, sample)
        picture = output / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(picture), draw_instances(image, found, trained.classes)[..., ::-1])
        results += entries(found, number, file, trained.classes)
    names = unique_names([file.stem for file in videos], list(files))
    for number, (name, file) in enumerate(zip(names, videos, strict=True), len(files)):
        frames: list[list[dict[str, Any]]] = []

        def draw(rgb: np.ndarray) -> np.ndarray:
            found = predict(model, as_input(trained.cfg, rgb))
            frames.append(entries(found, number, file, trained.classes))  # noqa: B023, it is called at once
            return draw_instances(rgb, found, trained.classes)

        redraw(file, output / f"{name}.mp4", draw)
        results += [{**entry, "frame": frame} for frame, found in enumerate(frames) for entry in found]
    (output / PREDICTIONS).write_text(json.dumps(results) + "\n")
    print(f"{some(len(results), 'object')} in {counted(len(files), len(videos))}; pictures and {PREDICTIONS}: {output}")
    return results


def entries(found: Instances, number: int, file: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Convert predictions on one image to COCO's results, with names.

    Returns:
        {"image_id": number, "file_name", "category_id": from 0 in the order of the classes, "category_name",
        "bbox": [x, y, width, height] in pixels of the file, "score"}, with masks "segmentation" (RLE). Of a video
        each has "frame", too, from 0.
    """
    names_too = {"file_name": str(file)}
    boxes = instances_to_coco_json(found, number)
    return [names_too | box | {"category_name": names[box["category_id"]]} for box in boxes]


def predict(model: nn.Module, sample: dict[str, Any]) -> Instances:
    """Run a model in eval mode on a sample; see predict_batch."""
    return predict_batch(model, [sample])[0]


@torch.no_grad()
def predict_batch(model: nn.Module, samples: Sequence[dict[str, Any]]) -> list[Instances]:
    """Run a model in eval mode on samples; instances of each on the CPU, in pixels of the original image.

    Raises:
        UserError: the model predicts no instances.
    """
    outputs = model(list(samples))
    if any("instances" not in output for output in outputs):
        raise UserError(f"MODEL.META_ARCHITECTURE: {type(model).__name__} predicts no boxes")
    return [output["instances"].to("cpu") for output in outputs]
