"""Folders of data as users have them, a few small images each, in every format that `densedist init` recognizes."""

import json

import numpy as np
from PIL import Image

SIZE = (48, 64)
BOX = (8, 10, 20, 16)  # x, y, width, height
NAMES = ("cup", "bowl")


def write_images(folder, count=5, suffix=".jpg", seed=0, size=SIZE):
    """Random photographs 0.jpg, 1.jpg, …; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    files = [folder / f"{number}{suffix}" for number in range(count)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(file)
    return files


def write_coco(json_file, images, prefix="", names=NAMES):
    """A COCO file of images, with an object of each class in each of them."""
    x, y, w, h = BOX
    entries = [
        {"id": n, "file_name": f"{prefix}{file.name}", "height": SIZE[0], "width": SIZE[1]}
        for n, file in enumerate(images, 1)
    ]
    annotations = [
        {"id": 10 * n + c, "image_id": n, "category_id": c, "bbox": [x + 5 * c, y, w, h], "area": w * h, "iscrowd": 0}
        for n in range(1, len(images) + 1)
        for c in range(1, len(names) + 1)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": categories}))


def coco(root, splits=("train", "val")):
    """As COCO itself: annotations/instances_train2017.json, train2017/0.jpg."""
    for seed, split in enumerate(splits):
        images = write_images(root / f"{split}2017", seed=seed)
        write_coco(root / "annotations" / f"instances_{split}2017.json", images)
    return root


def coco_beside(root, splits=("train", "valid")):
    """As Roboflow exports it: train/_annotations.coco.json next to its images."""
    for seed, split in enumerate(splits):
        write_coco(root / split / "_annotations.coco.json", write_images(root / split, seed=seed))
    return root


def yolo(root, splits=("train", "val")):
    """data.yaml, images/train, labels/train."""
    x, y, w, h = BOX
    box = f"{(x + w / 2) / SIZE[1]} {(y + h / 2) / SIZE[0]} {w / SIZE[1]} {h / SIZE[0]}"
    for seed, split in enumerate(splits):
        for image in write_images(root / "images" / split, seed=seed):
            label = root / "labels" / split / f"{image.stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(f"0 {box}\n1 {box}\n")
    lines = [f"names: {list(NAMES)}", *(f"{split}: images/{split}" for split in splits)]
    (root / "data.yaml").write_text("\n".join(lines) + "\n")
    return root


def voc_boxes(root, splits=("train", "val")):
    """JPEGImages, Annotations, ImageSets/Main."""
    x, y, w, h = BOX
    images = write_images(root / "JPEGImages", 5 * len(splits))
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for image in images:
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax>"
            f"<ymax>{y + h}</ymax></bndbox></object>"
            for name in NAMES
        )
        (root / "Annotations" / f"{image.stem}.xml").write_text(f"<annotation>{objects}</annotation>")
    for number, split in enumerate(splits):
        names = [image.stem for image in images[5 * number : 5 * number + 5]]
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def write_masks(images, folder, values, name="{}.png", palette=None, size=SIZE):
    """A mask of each image: stripes of the values, numbers or colors."""
    folder.mkdir(parents=True, exist_ok=True)
    stripes = np.array(values, np.uint8)[np.arange(size[1]) * len(values) // size[1]]
    mask = Image.fromarray(np.ascontiguousarray(np.broadcast_to(stripes, (size[0], *stripes.shape))))
    if palette:
        mask.putpalette([value for color in palette for value in color])
    for image in images:
        mask.save(folder / name.format(image.stem))


def masks(root, values=(0, 1, 255), splits=("train", "val")):
    """images/train, masks/train."""
    for seed, split in enumerate(splits):
        write_masks(write_images(root / "images" / split, seed=seed), root / "masks" / split, values)
    return root


def masks_by_split(root, values=(0, 255), splits=("train", "valid")):
    """train/images, train/masks."""
    for seed, split in enumerate(splits):
        write_masks(write_images(root / split / "images", seed=seed), root / split / "masks", values)
    return root


def camvid(root, splits=("train", "val", "test")):
    """train, trainannot, as the SegNet authors hand it out."""
    size = (360, 480)
    for seed, split in enumerate(splits):
        images = write_images(root / split, 2, ".png", seed, size)
        write_masks(images, root / f"{split}annot", (0, 3, 8, 11), size=size)
        (root / f"{split}.txt").write_text(
            "".join(f"/CamVid/{split}/{i.name} /{split}annot/{i.name}\n" for i in images)
        )
    return root


def cityscapes(root, values=(7, 8, 11, 23, 26, 0), splits=("train", "val")):
    """leftImg8bit and gtFine."""
    for seed, split in enumerate(splits):
        images = write_images(root / "leftImg8bit" / split / "town", suffix="_leftImg8bit.png", seed=seed)
        for image in images:
            stem = image.name.removesuffix("_leftImg8bit.png")
            write_masks([image], root / "gtFine" / split / "town", values, f"{stem}_gtFine_labelIds.png")
    return root


def voc_masks(root, splits=("train", "val")):
    """JPEGImages, SegmentationClass with VOC's palette, ImageSets/Segmentation."""
    palette = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    images = write_images(root / "JPEGImages", 5 * len(splits))
    write_masks(images, root / "SegmentationClass", (0, 1, 3, 255), palette=[*palette, *[(9, 9, 9)] * 252])
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for number, split in enumerate(splits):
        names = [image.stem for image in images[5 * number : 5 * number + 5]]
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def ade20k(root, splits=("training", "validation")):
    """images/training, annotations/training."""
    for seed, split in enumerate(splits):
        write_masks(write_images(root / "images" / split, seed=seed), root / "annotations" / split, (0, 1, 2, 5))
    return root
