"""The commands about a trained student: predict, visualize, export, profile."""

import argparse
import sys
from pathlib import Path

from densedist.command.arguments import (
    Parser,
    add_beside,
    add_images,
    add_output,
    add_score,
    add_teacher,
    add_weights,
    add_words,
    beside,
    comma_list,
    refuse_missing,
)


def add_predict(parser: Parser) -> None:
    """Write predictions for images and videos, as pictures, videos and JSON."""
    parser.epilog = "W may also be an ONNX or OpenVINO file of densedist export. Files of an earlier predict in D are "
    parser.epilog += "replaced."
    add_weights(parser)
    add_output(parser, "output/predict")
    add_score(parser, "0.5")
    add_words(parser, "--weights W", "[IMAGES ...]", task=False)
    parser.set_defaults(first=_first_of_predict)


def _first_of_predict(args: argparse.Namespace) -> None:
    from densedist.common.errors import UserError
    from densedist.common.locks import refuse_other_files
    from densedist.common.run_names import PREDICTIONS

    if not args.files:
        raise UserError("no image is named: give files or folders")
    refuse_missing(args.files)
    refuse_other_files(args.output_dir, PREDICTIONS, "predict")


def predict(args: argparse.Namespace) -> None:
    from densedist import api

    api.predict(
        args.weights,
        args.files,
        args.overrides,
        config=args.config_file,
        output_dir=args.output_dir,
        score_threshold=args.score_threshold,
    )


def add_visualize(parser: Parser) -> None:
    """Draw ground truth, teacher and student side by side, and the relations that DIST preserves."""
    parser.epilog = "FOLDER has the images to draw. Without it, those of DATASETS.TEST are drawn, with ground truth. "
    parser.epilog += "Files of an earlier visualize in D are replaced."
    add_weights(parser)
    add_teacher(parser)
    add_beside(parser)
    add_output(parser, "output/visualize")
    add_images(parser, 8, "number of images to draw, from the first")
    add_score(parser, "the score with the best F1")
    add_words(parser, "--weights W", "[FOLDER]", task=False)
    parser.set_defaults(first=_first_of_visualize)


def _first_of_visualize(args: argparse.Namespace) -> None:
    from densedist.common.locks import refuse_other_files
    from densedist.common.run_names import OVERVIEW

    if len(args.files) > 1:
        Parser().error(f"FOLDER: want one folder of images, not {' '.join(args.files)}")
    refuse_missing(args.files)
    refuse_other_files(args.output_dir, OVERVIEW, "visualize")


def visualize(args: argparse.Namespace) -> None:
    from densedist import api

    api.visualize(
        args.weights,
        args.overrides,
        config=args.config_file,
        teacher=args.teacher,
        beside=beside(args),
        output_dir=args.output_dir,
        images=args.images,
        image_folder=args.files[0] if args.files else "",
        score_threshold=args.score_threshold,
    )


def add_export(parser: Parser) -> None:
    """Export a student as stock weights, ONNX, OpenVINO and PyTorch programs, in float32 and INT8."""
    add_weights(parser)
    text = "formats to write, of weights, onnx, openvino and torch; default: %(default)s"
    parser.add_argument("--format", type=comma_list, default="weights,onnx,torch", metavar="A,B", help=text)
    text = "let onnx and openvino take images of this height and width only, to which they are stretched"
    parser.add_argument("--size", dest="fixed", type=int, nargs=2, metavar=("H", "W"), help=text)
    text = "also write onnx and openvino with weights and activations in 8 bits, and measure both on DATASETS.TEST"
    parser.add_argument("--int8", action="store_true", help=text)
    text = "images of DATASETS.UNLABELED, or else TRAIN, by which --int8 sets the ranges of activations; "
    parser.add_argument("--calibration-images", type=int, default=100, metavar="N", help=f"{text}default: %(default)s")
    add_output(parser, "", "export next to the weights")
    add_images(parser, 16, "number of images of DATASETS.TEST on which exports are verified")
    parser.add_argument("--image-folder", default="", metavar="D", help="verify on images of this folder instead")
    add_words(parser, "--weights W", task=False)
    parser.set_defaults(first=_first_of_export)


def _first_of_export(args: argparse.Namespace) -> None:
    from densedist.common.export_names import refuse_missing_packages, refuse_unknown

    refuse_unknown(args.format)
    refuse_missing([args.image_folder] if args.image_folder else [])
    refuse_missing_packages(args.format, args.int8)


def export(args: argparse.Namespace) -> None:
    from densedist import api

    done = api.export(
        args.weights,
        args.overrides,
        config=args.config_file,
        formats=args.format,
        size=tuple(args.fixed) if args.fixed else None,
        int8=args.int8,
        calibration_images=args.calibration_images,
        output_dir=args.output_dir or "",
        images=args.images,
        image_folder=args.image_folder,
    )
    for failure in done["failures"]:
        print(f"failed: {failure}", file=sys.stderr)
    if done["failures"]:
        sys.exit(1)


def add_profile(parser: Parser) -> None:
    """Measure time, memory and multiply-adds of a student and its teacher, and time in each runtime."""
    add_weights(parser)
    add_teacher(parser)
    text = "height and width of the images; repeatable"
    parser.add_argument("--size", type=int, nargs=2, action="append", default=[], metavar=("H", "W"), help=text)
    add_beside(parser)
    text = "also measure the models as torch.compile runs them (of detectors the backbone); needs a C++ compiler"
    parser.add_argument("--compile", action="store_true", help=text)
    text = "also draw accuracy against latency to this PNG; scores are those that runs and int8.json have"
    parser.add_argument("--picture", type=Path, metavar="FILE", help=text)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    add_words(parser, "--weights W", task=False)


def profile(args: argparse.Namespace) -> None:
    from densedist.common.beside import locate_beside
    from densedist.common.profile import best_device, measure_and_report
    from densedist.common.run_files import locate
    from densedist.tasks import task_of

    student, device = locate(args.weights, args.config_file).under(*args.overrides), best_device()
    others = locate_beside(beside(args))
    subjects = task_of(student.config).profile(student, args.teacher, others, device.type)
    if "teacher" not in [subject.name for subject in subjects.models]:
        print("Without a teacher: none is named by the config, or --teacher is none.")
    exported = Path(student.file).parent / "export"
    sizes = [(h, w) for h, w in args.size]
    measure_and_report(subjects, sizes, device, exported, args.json, args.compile, args.picture)
