"""Pictures and boxes of a trained detector for any images."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from tqdm import tqdm

from common.image_files import find_images
from common.progress import on_terminal
from det.drawing import draw_instances
from det.inference import check_score, predict, read_input
from det.trained import load_trained

SCORE = 0.5


def main(args: argparse.Namespace) -> None:
    """Write one PNG for each image and predictions.json, as the options of tools/predict.py say."""
    files = find_images(args.images)
    score = SCORE if args.score_threshold is None else args.score_threshold
    check_score(score)
    thresholds = [
        word for head in ("ROI_HEADS", "RETINANET") for word in (f"MODEL.{head}.SCORE_THRESH_TEST", str(score))
    ]
    trained = load_trained(args.weights, args.config_file, [*thresholds, *args.opts])
    results: list[dict[str, Any]] = []
    for number, (name, file) in enumerate(tqdm(files.items(), "predicting", disable=not on_terminal())):
        sample, image = read_input(trained.cfg, file)
        found = predict(trained.model, sample)
        picture = args.output / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(picture), draw_instances(image, found, trained.classes)[..., ::-1])
        results += entries(found, number, file, trained.classes)
    (args.output / "predictions.json").write_text(json.dumps(results) + "\n")
    print(f"{len(results)} objects in {len(files)} images: {args.output}")


def entries(found: Instances, number: int, file: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Predictions on one image as COCO's results, with names.

    Returns:
        {"image_id": number, "file_name", "category_id": from 0 in the order of the classes, "category_name",
        "bbox": [x, y, width, height] in pixels of the file, "score"}, with masks "segmentation" (RLE).
    """
    names_too = {"file_name": str(file)}
    boxes = instances_to_coco_json(found, number)
    return [names_too | box | {"category_name": names[box["category_id"]]} for box in boxes]
