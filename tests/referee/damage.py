"""What happens to data on its way: each damage says whether the truth can still be told."""

import json
import os
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from referee.situations import Handed

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")


@dataclass(frozen=True)
class Damage:
    """
    Args:
        spoil: of (root, what was handed, seed); whether there was something to spoil.
        lost: whether nothing tells the truth any more, so that it must be refused.
        of: how the names of forms begin that it is for; "" = of all.
    """

    spoil: Callable[[Path, Handed, int], bool]
    lost: bool = True
    of: str = ""

    def is_for(self, form: str) -> bool:
        return form.startswith(self.of)


def _picture(root: Path, handed: Handed, seed: int) -> Path | None:
    """One of the pictures that count."""
    files = sorted(f for f in root.rglob("*") if f.suffix.lower() in PICTURES)
    own = [f for f in files if not any(p.startswith((".", "of_no_image")) for p in f.relative_to(root).parts)]
    own = [f for f in own if not f.stem.endswith(("-checkpoint", *handed.unread))]
    own = [f for f in own if f.parent.name not in handed.unread]
    return random.Random(seed).choice(own) if own else None


def _cut(share: float) -> Callable[[Path, Handed, int], bool]:
    def spoil(root: Path, handed: Handed, seed: int) -> bool:
        if not (file := _picture(root, handed, seed)):
            return False
        data = file.read_bytes()
        file.write_bytes(data[: int(len(data) * share)])
        return True

    return spoil


def _text_instead(root: Path, handed: Handed, seed: int) -> bool:
    if not (file := _picture(root, handed, seed)):
        return False
    file.write_text("<html>404 Not Found</html>")
    return True


def _flipped_bit(root: Path, handed: Handed, seed: int) -> bool:
    """In the pixels of a PNG, whose check sums tell."""
    if not (file := _picture(root, handed, seed)) or not (data := bytearray(file.read_bytes())).startswith(b"\x89PNG"):
        return False
    data[data.index(b"IDAT") + 8] ^= 255
    file.write_bytes(bytes(data))
    return True


def _resized(root: Path, handed: Handed, seed: int) -> bool:
    if not handed.sized or not (file := _picture(root, handed, seed)):
        return False
    with Image.open(file) as picture:
        picture.load()
        picture.resize((picture.width + 3, picture.height)).save(file)
    return True


def _gone(root: Path, handed: Handed, seed: int) -> bool:
    if not (file := _picture(root, handed, seed)) or (handed.unnamed and file.is_relative_to(root / handed.unnamed)):
        return False
    if file.with_stem(file.stem.replace("_labelTrainIds", "_labelIds")) != file:
        return False  # labelIds, which may lie beside them, take their place
    os.remove(file)
    return True


def _moved(root: Path, handed: Handed, seed: int) -> bool:
    """Nothing is left where the config looks."""
    root.rename(root.parent / "elsewhere")
    root.mkdir()
    return True


def _json(change: Callable[[dict[str, Any]], bool], every: bool = False) -> Callable[[Path, Handed, int], bool]:
    """A change of the first COCO JSON file, or of every one; whether there was one."""

    def spoil(root: Path, handed: Handed, seed: int) -> bool:
        done = False
        for file in sorted(root.rglob("*.json")):
            try:
                content = json.loads(file.read_bytes())
            except ValueError:
                continue
            if isinstance(content, dict) and content.get("annotations") and change(content):
                file.write_text(json.dumps(content), encoding="utf-8")
                done = True
                if not every:
                    break
        return done

    return spoil


def _of_first(**values: Any) -> Callable[[Path, Handed, int], bool]:
    """Other values in the first object that is no crowd."""

    def change(content: dict[str, Any]) -> bool:
        own = [a for a in content["annotations"] if not a.get("iscrowd") and a.get("iscrowd") != "0"]
        for annotation in own[:1]:
            annotation.update(values)
        return bool(own)

    return _json(change)


def _axes(content: dict[str, Any]) -> bool:
    image = next((i for i in content["images"] if i["height"] != i["width"]), None)
    if image:
        image["height"], image["width"] = image["width"], image["height"]
    return bool(image)


def _relative(content: dict[str, Any]) -> bool:
    sizes = {str(i["id"]): (i["width"], i["height"]) for i in content["images"]}
    for a in content["annotations"]:
        if not isinstance(a.get("bbox"), list) or not all(isinstance(x, (int, float)) for x in a["bbox"]):
            return False
        width, height = sizes[str(a["image_id"])]
        a["bbox"] = [value / length for value, length in zip(a["bbox"], (width, height) * 2, strict=True)]
    return True


def _twin(content: dict[str, Any]) -> bool:
    """Two categories of one name."""
    content["categories"][-1]["name"] = content["categories"][0]["name"]
    return len(content["categories"]) > 1


def _cut_json(root: Path, handed: Handed, seed: int) -> bool:
    files = [f for f in sorted(root.rglob("*.json")) if b'"annotations"' in f.read_bytes()]
    for file in files[:1]:
        file.write_bytes(file.read_bytes()[:-40])
    return bool(files)


def _lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path, Handed, int], bool]:
    """A change of the words of the first YOLO line of an object."""

    def spoil(root: Path, handed: Handed, seed: int) -> bool:
        for file in sorted(root.rglob("*.txt")):
            if "labels" not in file.relative_to(root).parts or file.name.startswith("."):
                continue
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            if lines and lines[0].split():
                lines[0] = " ".join(change(lines[0].split()))
                file.write_text("\n".join(lines) + "\n")
                return True
        return False

    return spoil


def _xml(change: Callable[[str], str]) -> Callable[[Path, Handed, int], bool]:
    """A change of the text of the first VOC annotation that has an object."""

    def spoil(root: Path, handed: Handed, seed: int) -> bool:
        for file in sorted(root.rglob("*.xml")):
            if any(part.startswith(".") for part in file.relative_to(root).parts):
                continue
            try:
                text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            if "<object>" in text and (new := change(text)) != text:
                file.write_text(new, encoding="utf-8")
                return True
        return False

    return spoil


def _xml_gone(root: Path, handed: Handed, seed: int) -> bool:
    files = [f for f in sorted(root.rglob("*.xml")) if "/." not in str(f) and f.stem != "elsewhere"]
    for file in files[:1]:
        file.unlink()
    return bool(files)


DAMAGES: Mapping[str, Damage] = {
    "a file cut in half": Damage(_cut(0.5)),
    "a file of no bytes": Damage(_cut(0)),
    "a page instead of a file": Damage(_text_instead),
    "a bit of a PNG turned": Damage(_flipped_bit),
    "a file of another size": Damage(_resized),
    "a file is gone": Damage(_gone),
    "all files are gone": Damage(_moved),
}
DET_DAMAGES: Mapping[str, Damage] = {
    **DAMAGES,
    "JSON: cut": Damage(_cut_json, of="COCO"),
    "JSON: an image that is not there": Damage(_of_first(image_id=987654), of="COCO"),
    "JSON: a category that is not there": Damage(_of_first(category_id=987654), of="COCO"),
    "JSON: a box that is no number": Damage(_of_first(bbox=[float("nan"), 1, 5, 5]), of="COCO"),
    "JSON: a box of no width": Damage(_of_first(bbox=[1, 1, 0, 5]), of="COCO"),
    "JSON: a box of less than no width": Damage(_of_first(bbox=[8, 8, -5, 5]), of="COCO"),
    "JSON: a box outside": Damage(_of_first(bbox=[500, 500, 5, 5]), of="COCO"),
    "JSON: a box of three numbers": Damage(_of_first(bbox=[1, 2, 3]), of="COCO"),
    "JSON: boxes in parts of the image": Damage(_json(_relative, every=True), of="COCO"),
    "JSON: height and width swapped": Damage(_json(_axes), of="COCO"),
    "JSON: two categories of one name": Damage(_json(_twin), of="COCO"),
    "JSON: iscrowd is 2": Damage(_of_first(iscrowd=2), of="COCO"),
    "YOLO: a class beyond the names": Damage(_lines(lambda words: ["99", *words[1:]]), of="YOLO"),
    "YOLO: a class below 0": Damage(_lines(lambda words: ["-1", *words[1:]]), of="YOLO"),
    "YOLO: a class between two": Damage(_lines(lambda words: ["0.5", *words[1:]]), of="YOLO"),
    "YOLO: the class's name": Damage(_lines(lambda words: ["road", *words[1:]]), of="YOLO"),
    "YOLO: pixels": Damage(_lines(lambda words: [words[0], "20", "20", "11", "9", *words[5:]]), of="YOLO"),
    "YOLO: a number is missing": Damage(_lines(lambda words: words[:4]), of="YOLO"),
    "YOLO: no number": Damage(_lines(lambda words: [words[0], "nan", *words[2:]]), of="YOLO"),
    "YOLO: of no width": Damage(
        _lines(lambda words: [*words[:3], "0", *words[4:]] if len(words) == 5 else ["99"]), of="YOLO"
    ),
    "XML: cut": Damage(_xml(lambda text: text[:-20]), of="VOC"),
    "XML: no corner": Damage(_xml(lambda text: re.sub(r"<xmax>[^<]*</xmax>", "", text)), of="VOC"),
    "XML: a corner that is text": Damage(_xml(lambda text: re.sub(r"<xmin>[^<]*<", "<xmin>left<", text)), of="VOC"),
    "XML: corners swapped": Damage(_xml(lambda text: re.sub(r"xmin>[^<]*</xmin>", "xmin>900</xmin>", text)), of="VOC"),
    "XML: no name": Damage(_xml(lambda text: re.sub(r"<name>[^<]*</name>", "<name></name>", text)), of="VOC"),
    "XML: a file is gone": Damage(_xml_gone, of="VOC"),
}
