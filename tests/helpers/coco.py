"""Ground truth in COCO format, right and wrong."""

CLASSES = "0123456789"


def coco(box=(5.0, 5.0, 20.0, 20.0)):
    """Two images of 64x48 pixels, one object each."""
    images = [{"id": i, "file_name": f"{i}.png", "height": 48, "width": 64} for i in range(2)]
    objects = [{"id": 10 + i, "image_id": i, "category_id": 1 + i, "bbox": list(box), "iscrowd": 0} for i in range(2)]
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    return {"images": images, "annotations": objects, "categories": categories}


def change(kind, index, **values):
    content = coco()
    content[kind][index] |= values
    return content


def without(kind, index, key):
    content = coco()
    del content[kind][index][key]
    return content
