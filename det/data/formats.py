"""The formats of data sets that detection reads: COCO, YOLO, Pascal VOC."""

from densedist.common.config.formats import Format
from densedist.det.data import as_coco, voc, yolo

# By key of DATASETS. `read` is called with the items of an entry behind its name, and returns the COCO JSON file that
# holds the data set, and the folder of its images. It raises UserError for files that do not have the format.
FORMATS: dict[str, Format] = {
    "COCO_FORMAT": Format(
        "[name, JSON file, image folder], or lists of files and folders",
        as_coco.of_files,
        "Your data sets in COCO's format",
    ),
    "YOLO_FORMAT": Format("[name, data.yaml, split]", yolo.as_coco, "Your data sets in YOLO's format"),
    "VOC_FORMAT": Format("[name, folder, split]", voc.as_coco, "Your data sets in Pascal VOC's format"),
}
