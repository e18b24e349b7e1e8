"""The keys of a segmentation config: Detectron2's names and grammar, SMP's models."""

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from densedist.common.config.merge import add_common_keys


def get_cfg() -> CfgNode:
    """A config with every key that segmentation knows and its default."""
    stock = get_detectron2_cfg()
    cfg = CfgNode()
    cfg.VERSION = stock.VERSION
    cfg.OUTPUT_DIR = stock.OUTPUT_DIR
    cfg.SEED = -1  # below 0: another one each time

    cfg.MODEL = CfgNode()
    cfg.MODEL.DEVICE = "cuda"
    cfg.MODEL.WEIGHTS = ""  # to start from, or to evaluate: a checkpoint, or a folder of SMP's save_pretrained
    cfg.MODEL.ARCHITECTURE = "DeepLabV3"  # any of SMP's
    cfg.MODEL.ENCODER = CfgNode()
    cfg.MODEL.ENCODER.NAME = "resnet18"  # any of SMP's; "tu-…" is any of timm's
    cfg.MODEL.ENCODER.WEIGHTS = ""  # e.g. imagenet; empty = random
    cfg.MODEL.ENCODER.DEPTH = 5
    cfg.MODEL.ENCODER.OUTPUT_STRIDE = 0  # 8 or 16 = dilated; 0 = what the architecture does by default
    cfg.MODEL.ARGS = CfgNode(new_allowed=True)  # more arguments of the architecture, e.g. decoder_channels
    cfg.MODEL.AUX_HEAD = CfgNode({"ENABLED": False, "LOSS_WEIGHT": 0.4})  # FCN head on the last stage but one
    cfg.MODEL.CLASS_WEIGHTS = []  # of the cross entropy, one for each class; empty = all 1
    cfg.MODEL.SYNC_BN = True  # batch norm over the batch of all processes
    # In the order of INPUT.FORMAT, for pixels of 0 to 255. The default is that of SMP's ImageNet encoders.
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]
    cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]

    cfg.INPUT = CfgNode()
    cfg.INPUT.FORMAT = "RGB"  # or "BGR"
    cfg.INPUT.SCALES = [1.0]  # a training image is resized by one of them, drawn at random
    cfg.INPUT.CROP_SIZE = [512, 1024]  # height, width of a training sample
    cfg.INPUT.RANDOM_FLIP = "horizontal"  # or "none"

    cfg.DATASETS = CfgNode()
    cfg.DATASETS.ROOT = ""  # a folder in Cityscapes' form, or "digits"
    # Folders of leftImg8bit. A part of one is named like a slice: train[:100]
    cfg.DATASETS.TRAIN = ["train"]
    cfg.DATASETS.TEST = ["val"]
    # {name, ids: [labelId, …], color: [r, g, b]}, in the order of the trainIds
    cfg.DATASETS.CLASSES = []
    cfg.DATASETS.IGNORED_IDS = []  # the other labelIds that may occur
    cfg.DATALOADER = CfgNode({"NUM_WORKERS": 4})

    cfg.SOLVER = stock.SOLVER.clone()
    del cfg.SOLVER["REFERENCE_WORLD_SIZE"]  # nothing here reads it

    cfg.TEST = CfgNode()
    cfg.TEST.EVAL_PERIOD = 0
    cfg.TEST.SCALES = [1.0]  # probabilities are averaged over the image at these scales
    cfg.TEST.FLIP = False  # and over the image and its mirror image
    cfg.TEST.WINDOW_SIZE = []  # height, width of a sliding window; empty = the whole image at once
    cfg.TEST.WINDOW_OVERLAP = 0.5  # part of a window that the next one covers again, at least
    cfg.TEST.SAVE_LABEL_IDS = False  # predictions as labelIds PNG, as Cityscapes' server takes them
    cfg.TEST.SAVE_OVERLAYS = False  # predictions as colours over the image

    add_common_keys(cfg)
    cfg.DISTILL.IGNORED_PIXELS = True  # distil also on pixels that the label ignores, as the authors do
    return cfg


def without_distillation(cfg: CfgNode) -> CfgNode:
    """A copy of cfg that builds the plain student: no teacher, no auxiliary head."""
    plain = cfg.clone()
    plain.defrost()
    plain.DISTILL.TEACHER.CONFIG_FILE = plain.DISTILL.TEACHER.WEIGHTS = ""
    plain.MODEL.AUX_HEAD.ENABLED = False
    return plain
