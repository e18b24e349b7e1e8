"""The images of data sets, and a part of the training data that is set aside, to choose settings on."""

import hashlib
import json
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from densedist.common.errors import UserError
from densedist.common.files import write_text
from densedist.det.data.coco import read_coco


def images(cfg: CfgNode, side: str) -> set[str]:
    """The files of the images of DATASETS.TRAIN, UNLABELED or TEST, whose data sets are registered."""
    return {d["file_name"] for name in cfg.DATASETS[side] for d in DatasetCatalog.get(name)}


def set_aside(cfg: CfgNode, share: float, folder: Path) -> list[str]:
    """Overrides by which the last images of each data set of DATASETS.TRAIN are DATASETS.TEST instead.

    Both parts are data sets of DATASETS.COCO_FORMAT, whose JSON files are written to a folder.

    Args:
        cfg: with its data sets looked up.
        share: of a data set's images, in the order of their ids, between 0 and 1; at least one image.

    Raises:
        UserError: a data set that is not in COCO form, or of which nothing would be left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept: list[list[str]] = []
    aside: list[list[str]] = []
    for name in cfg.DATASETS.TRAIN:
        meta = MetadataCatalog.get(name)
        if meta.get("evaluator_type") != "coco" or not meta.get("json_file"):
            raise UserError(f"--set-aside: data set {name} is not in COCO form: name data to choose on by --val")
        ids = [image["given"] for image in read_coco(meta.json_file).images]
        last = max(1, round(len(ids) * share))
        if last >= len(ids):
            raise UserError(f"--set-aside: {share:g} of the {len(ids)} images of {name} leaves none to train on")
        # Names are known to the whole process, which may set aside other parts in other folders.
        mark = hashlib.sha256(f"{folder.absolute()} {share}".encode()).hexdigest()[:6]
        for part, chosen, entries in (("kept", ids[:-last], kept), ("aside", ids[-last:], aside)):
            file = folder.absolute() / f"{name.replace('/', '_')}_{part}.json"
            write_text(file, _part(meta.json_file, set(chosen)))
            entries.append([f"{name}_{part}_{mark}", str(file), str(meta.image_root)])
    return [
        *("DATASETS.COCO_FORMAT", str([*map(list, cfg.DATASETS.COCO_FORMAT), *kept, *aside])),
        *("DATASETS.TRAIN", str([name for name, *_ in kept])),
        *("DATASETS.TEST", str([name for name, *_ in aside])),
    ]


def _part(json_file: str, ids: set) -> str:
    """The text of a COCO JSON file with these images alone."""
    content = json.loads(Path(json_file).read_text(encoding="utf-8"))
    content["images"] = [image for image in content["images"] if image["id"] in ids]
    if "annotations" in content:
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    return json.dumps(content)
