"""Detection: what training and scoring are given of data, beside the truth."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BitMasks, Boxes, Instances
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from densedist.common.randomness import RunPosition
from densedist.det.task import TASK
from referee.judge import RefusedError, close, refusing, scene_of, write_config
from referee.scenes import Scene, Thing, World
from referee.situations import Handed, Situation

PLANTED = ("none", "none", "one is missed", "one has another class", "one is moved", "one is found twice", "on a crowd")


class Found(NamedTuple):
    """A prediction."""

    thing: Thing
    shift: int = 0


def look(run: Path, handed: Handed, world: World, situation: Situation) -> None:
    """Compare all that is read with the truth.

    Raises:
        RefusedError: the suite refuses it.
        AssertionError: a difference.
    """
    usual: dict[str, Any] = {
        "MODEL": {
            "DEVICE": "cpu",
            "META_ARCHITECTURE": "DistillRCNN",
            "MASK_ON": handed.masks,
            "ROI_HEADS": {"NUM_CLASSES": len(handed.names)},
        },
        "INPUT": {"MIN_SIZE_TRAIN": [0], "MIN_SIZE_TEST": 0, "RANDOM_FLIP": "none"},
        "SOLVER": {"IMS_PER_BATCH": 1},
        "DATALOADER": {"NUM_WORKERS": 0, "FILTER_EMPTY_ANNOTATIONS": False},
        "OUTPUT_DIR": str(run / "output"),
    }
    file = write_config(run / "config.yaml", usual, handed.config)
    known = set(DatasetCatalog.list())
    try:
        with refusing():
            cfg = TASK.load_config(file, [])
            TASK.check_data(cfg)
        assert not (run / "output").exists(), "the output folder is made before the data is looked at"
        assert tuple(cfg.DATASETS.CLASSES) == handed.names, f"{cfg.DATASETS.CLASSES}, but they are {handed.names}"
        _check_samples(cfg, handed, world)
        _check_counts(cfg, handed, world)
        _check_scores(cfg, handed, world, situation)
    finally:
        for name in set(DatasetCatalog.list()) - known:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def _objects(scene: Scene) -> list[Thing]:
    return [thing for thing in scene.things if not thing.crowd]


def _check_samples(cfg: CfgNode, handed: Handed, world: World) -> None:
    batches = iter(TASK.training_batches(cfg)(RunPosition(0)))
    seen = []
    for _ in world.scenes:
        (sample,) = next(batches)
        number = scene_of(_rgb(sample), handed)
        seen.append(number)
        scene, instances = world.scenes[number], sample["instances"]
        assert tuple(instances.image_size) == scene.size
        found = [
            (handed.names[kind], box.tolist())
            for kind, box in zip(instances.gt_classes.tolist(), instances.gt_boxes.tensor, strict=True)
        ]
        wanted = [(thing.name, list(map(float, thing.box))) for thing in _objects(scene)]
        pairs = _paired(found, wanted, handed.near)
        assert pairs is not None, f"scene {number}: boxes {found}, but they are {wanted}"
        if handed.masks:
            _check_masks(instances, scene, pairs, number)
    assert sorted(seen) == list(range(len(world.scenes))), f"trained on the scenes {sorted(seen)}"


def _rgb(sample: dict) -> np.ndarray:
    return np.ascontiguousarray(sample["image"].numpy()[::-1].transpose(1, 2, 0))  # INPUT.FORMAT is BGR


def _paired(found: list, wanted: list, near: float) -> list[int] | None:
    """For each found object the place of the wanted one that it is; None where they are not the same."""
    if len(found) != len(wanted):
        return None
    left, pairs = list(range(len(wanted))), []
    for name, box in found:
        same = [n for n in left if wanted[n][0] == name and np.abs(np.subtract(wanted[n][1], box)).max() <= near]
        if not same:
            return None
        left.remove(same[0])
        pairs.append(same[0])
    return pairs


def _check_masks(instances: Instances, scene: Scene, pairs: list[int], number: int) -> None:
    if not pairs:  # Detectron2 gives no masks to an image without objects
        return
    height, width = scene.size
    masks = instances.gt_masks
    for place, pair in enumerate(pairs):
        wanted = _objects(scene)[pair].mask(height, width)
        if isinstance(masks, BitMasks):
            seen = masks.tensor[place].numpy()
        else:
            runs = coco_mask.frPyObjects([p.tolist() for p in masks.polygons[place]], height, width)
            seen = coco_mask.decode(coco_mask.merge(runs)).astype(bool)
        assert np.array_equal(seen, wanted), f"scene {number}: a mask differs at {int((seen != wanted).sum())} pixels"


def _check_counts(cfg: CfgNode, handed: Handed, world: World) -> None:
    survey = TASK.survey(cfg, "TRAIN")
    names = [thing.name for scene in world.scenes for thing in _objects(scene)]
    wanted = {name: names.count(name) for name in handed.names}
    assert dict(survey.classes) == wanted, f"counted {dict(survey.classes)}, there are {wanted}"
    assert survey.sizes.total() == len(world.scenes), f"counted {survey.sizes.total()} images"


class _Oracle(nn.Module):
    """Finds what it is told in the scene that it sees."""

    def __init__(self, cfg: CfgNode, handed: Handed, world: World, found: list[list[Found]]) -> None:
        super().__init__()
        self.masks, self.handed, self.world, self.found = cfg.MODEL.MASK_ON, handed, world, found

    def forward(self, samples: list[dict]) -> list[dict]:
        return [{"instances": self._instances(scene_of(_rgb(sample), self.handed))} for sample in samples]

    def _instances(self, number: int) -> Instances:
        height, width = self.world.scenes[number].size
        found = self.found[number]
        result = Instances((height, width))
        result.pred_boxes = Boxes(torch.tensor([_moved(f) for f in found], dtype=torch.float32).reshape(-1, 4))
        result.scores = torch.tensor([_score(number, place) for place in range(len(found))])
        result.pred_classes = torch.tensor([self.handed.names.index(f.thing.name) for f in found], dtype=torch.int64)
        if self.masks:
            masks = [f.thing.mask(height, width) for f in found]
            result.pred_masks = torch.from_numpy(np.array(masks).reshape(-1, height, width))
        return result


def _moved(found: Found) -> list[int]:
    x0, y0, x1, y1 = found.thing.box
    return [x0 + found.shift, y0, x1 + found.shift, y1]


def _score(number: int, place: int) -> float:
    """No two are equal, as the order of equals is anyone's."""
    return float(np.float32(0.99 - 0.1 * place - 0.003 * number))


def _predictions(world: World, handed: Handed, planted: str) -> list[list[Found]]:
    found = [[Found(thing) for thing in _objects(scene)] for scene in world.scenes]
    of = next((number for number, objects in enumerate(found) if objects), None)
    if of is None:
        return found
    first = found[of][0].thing
    if planted == "one is missed":
        del found[of][0]
    elif planted == "one has another class":
        other = handed.names[(handed.names.index(first.name) + 1) % len(handed.names)]
        found[of][0] = Found(Thing(other, first.parts))
    elif planted == "one is moved":
        found[of][0] = Found(first, first.box[2] - first.box[0])
    elif planted == "one is found twice":
        found[of].append(Found(first))
    elif planted == "on a crowd" and handed.crowds:
        for number, scene in enumerate(world.scenes):
            found[number] += [Found(Thing(thing.name, thing.parts)) for thing in scene.things if thing.crowd]
    return found


def _check_scores(cfg: CfgNode, handed: Handed, world: World, situation: Situation) -> None:
    found = _predictions(world, handed, situation.planted)
    with redirect_stdout(StringIO()):
        results = TASK.evaluate(cfg, _Oracle(cfg, handed, world, found))
    for kind in ("bbox", "segm") if handed.masks else ("bbox",):
        wanted = _by_pycocotools(handed, world, found, kind)
        wrong = {name: (results[kind].get(name), value) for name, value in wanted.items()}
        wrong = {name: pair for name, pair in wrong.items() if pair[0] is None or not _near(*pair, handed)}
        assert not wrong, f"{kind}, scores (read, right): {wrong}"


def _near(score: float, wanted: float, handed: Handed) -> bool:
    # Small boxes that a writer rounds overlap less, but not too little for COCO's lowest bounds.
    return close(score, wanted) or (handed.near >= 0.5 and abs(score - wanted) < 95)


def _by_pycocotools(handed: Handed, world: World, found: list[list[Found]], kind: str) -> dict[str, float]:
    """AP in percent, over all classes and of each."""
    truth: dict[str, list] = {"images": [], "annotations": [], "categories": []}
    truth["categories"] = [{"id": n + 1, "name": name} for n, name in enumerate(handed.names)]
    guesses = []
    for number, scene in enumerate(world.scenes):
        height, width = scene.size
        truth["images"].append({"id": number + 1, "height": height, "width": width})
        of_image = {"image_id": number + 1}

        def about(thing: Thing, box: list[int], of_image=of_image, size=scene.size) -> dict[str, Any]:
            x0, y0, x1, y1 = box
            runs = coco_mask.encode(np.asfortranarray(thing.mask(*size).astype(np.uint8)))
            where = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "segmentation": runs}
            return {**of_image, **where, "category_id": handed.names.index(thing.name) + 1}

        for thing in scene.things:
            if thing.crowd and not handed.crowds:
                continue
            entry = about(thing, list(thing.box)) | {"iscrowd": int(thing.crowd)}
            truth["annotations"].append(entry | {"id": len(truth["annotations"]) + 1})
        for place, one in enumerate(found[number]):
            guesses.append(about(one.thing, _moved(one)) | {"score": _score(number, place)})
    with redirect_stdout(StringIO()):
        api = COCO()
        api.dataset = truth
        api.createIndex()
        if not guesses:
            return {}
        guessed = COCO()
        guessed.dataset = {**truth, "annotations": [g | {"id": n, "iscrowd": 0} for n, g in enumerate(guesses, 1)]}
        guessed.createIndex()
        evaluation = COCOeval(api, guessed, kind)
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # (IoUs, recalls, classes), all sizes

    def mean(values: np.ndarray) -> float:
        counted = values[values > -1]
        return float(100 * counted.mean()) if counted.size else float("nan")

    if len(handed.names) == 1:  # of a single class Detectron2 tells nothing beside
        return {"AP": mean(precision)}
    return {"AP": mean(precision)} | {f"AP-{name}": mean(precision[..., n]) for n, name in enumerate(handed.names)}


__all__ = ["PLANTED", "RefusedError", "look"]
