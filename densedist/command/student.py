"""The commands about a trained model: predict, label, visualize, export, profile, import."""

import argparse
import sys
from pathlib import Path

from densedist.command.arguments import (
    Parser,
    add_beside,
    add_config,
    add_output,
    add_overrides,
    add_score,
    add_task,
    add_teacher,
    add_weights,
    check_count,
    comma_list,
    files_and_overrides,
    overrides,
)


def add_predict(parser: Parser) -> None:
    """pictures and predictions of images: densedist predict --weights W IMAGES … [KEY VALUE …]"""
    add_weights(parser)
    add_output(parser, "output/predict")
    add_score(parser, "0.5")
    add_overrides(parser, "IMAGES")


def predict(args: argparse.Namespace) -> None:
    from densedist import api

    images, words = files_and_overrides(args)
    api.predict(
        args.weights,
        images,
        words,
        config=args.config_file,
        output_dir=args.output_dir,
        score_threshold=args.score_threshold,
    )


def add_label(parser: Parser) -> None:
    """labels that a teacher writes, to train on: densedist label det|seg --weights W IMAGES … [KEY VALUE …]"""
    parser.epilog = "Without IMAGES those of DATASETS.UNLABELED; several --weights are fused."
    add_task(parser)
    text = "checkpoint, OUTPUT_DIR of a run, or SMP folder of a teacher; may be given several times"
    parser.add_argument("--weights", required=True, action="append", metavar="W", help=text)
    add_config(parser, "; default: config.yaml beside the weights")
    add_output(parser, "output/labels")
    text = "predictions below are left out; default 0.5"
    parser.add_argument("--score-threshold", type=float, metavar="S", help=text)
    text = "for each class the score where F1 on DATASETS.TEST is best"
    parser.add_argument("--choose-thresholds", action="store_true", help=text)
    add_overrides(parser, "IMAGES")


def label(args: argparse.Namespace) -> None:
    from densedist import api

    images, words = files_and_overrides(args)
    api.label(
        args.weights,
        images,
        words,
        config=args.config_file,
        output_dir=args.output_dir,
        score_threshold=args.score_threshold,
        choose_thresholds=args.choose_thresholds,
        task=args.task,
    )


def add_visualize(parser: Parser) -> None:
    """student, teacher and truth, and what DIST keeps: densedist visualize --weights W [FOLDER] [KEY VALUE …]"""
    parser.epilog = "FOLDER is one of images; without it those of DATASETS.TEST are drawn, with their truth."
    add_weights(parser)
    add_teacher(parser)
    add_beside(parser)
    add_output(parser, "output/visualize")
    parser.add_argument("--images", type=int, default=8, metavar="N", help="how many, from the first")
    add_score(parser, "where its F1 is best")
    add_overrides(parser, "FOLDER")


def visualize(args: argparse.Namespace) -> None:
    from densedist.common.locks import claimed
    from densedist.common.run_files import locate, locate_beside
    from densedist.common.task import ImageSource
    from densedist.tasks import task_of

    check_count(args.images, "--images")
    folders, words = files_and_overrides(args)
    if len(folders) > 1:
        Parser().error(f"FOLDER: want one folder of images, not {' '.join(folders)}")
    student = locate(args.weights, args.config_file).under(*words)
    others = {name: weights.under(*words) for name, weights in locate_beside(args.beside).items()}
    source = ImageSource(args.images, Path(folders[0]) if folders else None)
    task = task_of(student.config)
    with claimed(args.output_dir, "--output-dir"):
        task.visualize(student, args.teacher, others, source, args.output_dir, args.score_threshold)


def add_export(parser: Parser) -> None:
    """a student for those who run it elsewhere: densedist export --weights W [KEY VALUE …]"""
    add_weights(parser)
    parser.add_argument("--format", type=comma_list, default="weights,onnx,torch", help="default: %(default)s")
    add_output(parser, "", "default: export beside the weights")
    parser.add_argument("--images", type=int, default=16, metavar="N", help="of DATASETS.TEST, to compare on")
    parser.add_argument("--image-folder", default="", metavar="D", help="compare on images of this folder instead")
    add_overrides(parser)


def export(args: argparse.Namespace) -> None:
    from densedist import api

    check_count(args.images, "--images")
    done = api.export(
        args.weights,
        overrides(args),
        config=args.config_file,
        formats=args.format,
        output_dir="" if args.output_dir == Path() else args.output_dir,
        images=args.images,
        image_folder=args.image_folder,
    )
    for failure in done["failures"]:
        print(f"failed: {failure}", file=sys.stderr)
    if done["failures"]:
        sys.exit(1)


def add_profile(parser: Parser) -> None:
    """what a student costs beside its teacher: densedist profile --weights W [--size H W …] [KEY VALUE …]"""
    add_weights(parser)
    add_teacher(parser)
    text = "of the images; may be given several times"
    parser.add_argument("--size", type=int, nargs=2, action="append", default=[], metavar=("H", "W"), help=text)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    add_overrides(parser)


def profile(args: argparse.Namespace) -> None:
    from densedist.common.profile import best_device, measure_and_report
    from densedist.common.run_files import locate
    from densedist.tasks import task_of

    for side in (side for size in args.size for side in size):
        check_count(side, "--size")
    student, device = locate(args.weights, args.config_file).under(*overrides(args)), best_device()
    subjects = task_of(student.config).profile(student, args.teacher, device.type)
    if len(subjects.models) == 1:
        print("Without a teacher: none is named by the config, or --teacher is none.")
    measure_and_report(subjects, [(h, w) for h, w in args.size], device, args.json)


def add_import(parser: Parser) -> None:
    """another project's checkpoint as a teacher: densedist import det|seg FILE --output-dir D [KEY VALUE …]"""
    parser.epilog = "What is written is named like the OUTPUT_DIR of a run: --weights D, dist@TEACHER=D."
    add_task(parser)
    text = "project that the file comes from; default: as its tensors' names say"
    parser.add_argument("--source", default="", metavar="S", help=text)
    parser.add_argument("--form", default="", help=argparse.SUPPRESS)  # its former name
    text = "what the file does not say, e.g. style=caffe; may be given several times"
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help=text)
    add_config(parser, " whose DATASETS name the classes, which the file does not")
    add_output(parser, "output/imported")
    add_overrides(parser, "FILE")


def import_weights(args: argparse.Namespace) -> None:
    from densedist import api
    from densedist.common.errors import UserError

    files, words = files_and_overrides(args)
    if len(files) != 1:
        raise UserError(f"want one FILE, got {len(files)}")
    record = api.import_weights(
        files[0],
        words,
        source=args.source,
        form=args.form,
        config=args.config_file,
        options=dict(word.partition("=")[::2] for word in args.option),
        output_dir=args.output_dir,
        task=args.task,
    )
    unused = f", of which {len(record['unused'])} are not used" if record["unused"] else ""
    print(f"{args.output_dir}: {record['tensors']} tensors of {record['source']}{unused}; see imported.json there")
