"""A trained student beside its teacher and the truth, in pictures."""

import argparse

from common.errors import UserError
from common.image_files import find_images
from common.trained import locate, with_teacher
from seg import relations
from seg.data import bare_frames
from seg.pictures import first_frames, overview, picture, views
from seg.teacher import load_teacher
from seg.trained import load_trained
from seg.training import load_config

OVERVIEW = 6  # images in overview.png


def main(args: argparse.Namespace) -> None:
    """Write one PNG for each image, overview.png and relations.png, as the options of tools/visualize.py say."""
    if args.score_threshold is not None:
        raise UserError("--score-threshold is for detectors: leave it out")
    trained = load_trained(args.weights, args.config_file, args.opts)
    cfg, model, classes = trained.cfg, trained.model, trained.classes
    count, folder = args.images, args.folder
    frames = bare_frames(find_images([folder], count)) if folder else first_frames(cfg, count)
    run = with_teacher(load_config(locate(args.weights, args.config_file)[1], args.opts), args.teacher)
    teacher = load_teacher(run) if run is not None else None
    seen = views(cfg, model, teacher, frames)
    for view in seen:
        picture(view, classes, args.output / f"{view.name}.png")
    overview(seen[:OVERVIEW], classes, args.output / "overview.png")
    found = relations.relations_of(cfg, model, teacher, frames)
    relations.draw(found, cfg, args.output / "relations.png", teacher is not None)
    print(f"{len(seen)} images: {args.output}")
