"""Pascal VOC's XML as labelImg, CVAT and labelme's converter write it."""

from pathlib import Path
from xml.sax.saxutils import escape

from referee.scenes import Scene, Thing, World
from referee.situations import Choices, Form, Handed
from referee.writers import pictures
from referee.writers.mask_folders import LISTS, MAY_LISTS, STEMS, add_junk, write_list

TOOLS = ("labelImg", "CVAT", "labelme", "VOC itself", "on one line", "as little as can be")
CORNERS = ("whole", "with a point", "with digits", "in another order", "blanks around")
TEXTS = ("UTF-8", "with a head", "byte order mark", "CRLF", "UTF-16", "Latin-1")


def by_hand(world: World, folder: Path, choices: Choices) -> Handed:
    """JPEGImages, Annotations, ImageSets/Main; a crowd is an object that is difficult."""
    reference, level, names = [], 0, []
    for number, scene in enumerate(world.scenes):
        stem = STEMS[choices["stem"]](number)
        names.append(stem)
        file, pixels, off = pictures.write(folder / "JPEGImages", stem, scene.image, "Pillow", choices["image"])
        reference.append(pixels)
        level = max(level, off)
        annotation = folder / "Annotations" / f"{stem}.xml"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        annotation.write_bytes(_encoded(_xml(scene, file, choices), choices["text"]))
    if choices["others"] == "another split":
        (folder / "Annotations" / "elsewhere.xml").write_text(
            "<annotation><object><name>zebra</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax>"
            "</bndbox></object></annotation>"
        )
    write_list(folder / "ImageSets" / "Main" / "train.txt", names, choices["list"])
    add_junk(choices["junk"], [folder / "JPEGImages", folder / "Annotations"])
    there = {thing.name for scene in world.scenes for thing in scene.things}
    classes = tuple(sorted(there | ({"zebra"} if choices["others"] == "another split" else set())))
    data = {"VOC_FORMAT": [["mine", str(folder), "train"]], "TRAIN": ["mine"], "TEST": ["mine"]}
    sized = choices["tool"] != "as little as can be"
    return Handed({"DATASETS": data}, classes, tuple(reference), level=level, sized=sized)


def _encoded(text: str, kind: str) -> bytes:
    heads = {"with a head": "utf-8", "UTF-16": "utf-16", "Latin-1": "iso-8859-1"}
    if kind in heads:
        text = f'<?xml version="1.0" encoding="{heads[kind]}"?>\n{text}'
    if kind == "CRLF":
        text = text.replace("\n", "\r\n")
    encoding = {"byte order mark": "utf-8-sig", "UTF-16": "utf-16", "Latin-1": "iso-8859-1"}.get(kind, "utf-8")
    return text.encode(encoding, "xmlcharrefreplace")


def _xml(scene: Scene, file: Path, choices: Choices) -> str:
    tool, height, width = choices["tool"], *scene.size
    objects = "".join(_object(thing, choices) for thing in scene.things)
    if tool == "as little as can be":
        return f"<annotation>{objects}</annotation>"
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    about = f"<folder>{escape(file.parent.name)}</folder><filename>{escape(file.name)}</filename>"
    if tool == "labelImg":
        about += f"<path>/home/someone/{escape(file.name)}</path>"
    source = "<source><database>Unknown</database></source>"
    text = f"<annotation>{about}{source}{size}<segmented>0</segmented>{objects}</annotation>"
    return text if tool == "on one line" else text.replace("><", ">\n\t<")


def _object(thing: Thing, choices: Choices) -> str:
    tool = choices["tool"]
    x0, y0, x1, y1 = thing.box
    values = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}
    words = {
        "with a point": {side: f"{value:.1f}" for side, value in values.items()},
        "with digits": {side: f"{value:.6f}" for side, value in values.items()},
        "blanks around": {side: f"\n  {value} " for side, value in values.items()},
    }.get(choices["corners"], {side: str(value) for side, value in values.items()})
    order = ["ymax", "xmax", "ymin", "xmin"] if choices["corners"] == "in another order" else list(words)
    box = "<bndbox>" + "".join(f"<{side}>{words[side]}</{side}>" for side in order) + "</bndbox>"
    name = f"<name>{escape(thing.name)}</name>"
    difficult = f"<difficult>{int(thing.crowd)}</difficult>"
    if tool == "as little as can be":
        return f"<object>{name}{difficult if thing.crowd else ''}{box}</object>"
    if tool == "VOC itself":  # parts of a person have boxes of their own, and may come first
        part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
        return f"<object>{part}{name}<pose>Left</pose><truncated>1</truncated>{difficult}{box}{part}</object>"
    if tool == "CVAT":
        more = "<attributes><attribute><name>rotation</name><value>0.0</value></attribute></attributes>"
        return f"<object>{name}<truncated>0</truncated><occluded>0</occluded>{difficult}{box}{more}</object>"
    return f"<object>{name}<pose>Unspecified</pose><truncated>0</truncated>{difficult}{box}</object>"


CHOICES = {
    "tool": TOOLS,
    "corners": CORNERS,
    "text": TEXTS,
    "list": LISTS,
    "others": ("none", "another split"),
    "image": ("jpg", "png", "JPG in capitals", "tif", "jpg, gray"),
    "stem": tuple(STEMS),
    "junk": ("none", "macOS", "Windows", "notes", "Jupyter"),
}
MAY = MAY_LISTS | {
    ("junk", "macOS"),
    ("stem", "blanks"),
    ("stem", "ends in a suffix"),
    ("text", "UTF-16"),
}
FORMS = (Form("VOC, by hand", by_hand, CHOICES, MAY),)
