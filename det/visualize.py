"""A trained student beside its teacher and the truth, in pictures."""

import argparse
import logging

from detectron2.config import CfgNode
from detectron2.modeling.meta_arch import RetinaNet
from torch import nn

from common.trained import locate, with_teacher
from det import rcnn_teacher, relations, retinanet_teacher
from det.data import with_test_alone
from det.inference import check_score
from det.pictures import overview, picture, views
from det.rcnn_teacher import RCNNTeacher
from det.retinanet_teacher import RetinaNetTeacher
from det.samples import folder_samples, test_samples
from det.trained import load_trained
from det.training import read_config

logger = logging.getLogger(__name__)
OVERVIEW = 6  # images in overview.png


def main(args: argparse.Namespace) -> None:
    """Write one PNG for each image, overview.png and relations.png, as the options of tools/visualize.py say."""
    if args.score_threshold is not None:
        check_score(args.score_threshold)
    trained = load_trained(args.weights, args.config_file, args.opts)
    cfg, model = trained.cfg, trained.model
    count, folder = args.images, args.folder
    samples = folder_samples(folder, count) if folder else test_samples(with_test_alone(cfg), count)
    run = with_teacher(read_config(locate(args.weights, args.config_file)[1], args.opts), args.teacher)
    teacher = _load(run, model) if run is not None else None
    seen = views(cfg, model, teacher, samples, args.score_threshold)
    for view in seen:
        picture(view, trained.classes, args.output / f"{view.name}.png")
    overview(seen[:OVERVIEW], trained.classes, args.output / "overview.png")
    if isinstance(model, relations.KINDS):
        found = relations.relations_of(cfg, model, teacher, samples)
        relations.draw(found, cfg, args.output / "relations.png", teacher is not None)
    else:
        logger.warning(f"without relations.png: {type(model).__name__} is no R-CNN and no RetinaNet")
    print(f"{len(seen)} images: {args.output}")


def _load(run: CfgNode, model: nn.Module) -> RCNNTeacher | RetinaNetTeacher:
    if isinstance(model, RetinaNet):
        return retinanet_teacher.load_teacher(run)
    return rcnn_teacher.load_teacher(run)
