"""The commands about teachers: label, import."""

import argparse
from functools import partial

from densedist.command.arguments import (
    Parser,
    add_config,
    add_output,
    add_processes,
    add_score,
    add_words,
    in_processes,
    refuse_missing,
)


def add_label(parser: Parser) -> None:
    """Write a teacher's predictions as labels to train on."""
    parser.epilog = "Without IMAGES, those of DATASETS.UNLABELED are labeled. Several --weights are fused. Without "
    parser.epilog += "--weights, --config-file is a student's, and its teacher labels in the student's classes."
    parser.add_argument("--resume", action="store_true", help="continue the labeling that was begun in D")
    text = "a teacher: checkpoint, OUTPUT_DIR of a run, folder of SMP or transformers, or ONNX file; repeatable"
    parser.add_argument("--weights", default=[], action="append", metavar="W", help=text)
    add_config(parser, default="config.yaml next to the weights")
    add_output(parser, "output/labels")
    add_score(parser, "0.5", "boxes or pixels")
    text = "boxes with a score from S up to --score-threshold count neither as objects nor as background"
    parser.add_argument("--ignore-threshold", type=float, metavar="S", help=text)
    text = "choose the score threshold of each class by the best F1 on DATASETS.TEST"
    parser.add_argument("--choose-thresholds", action="store_const", const="f1", default="", help=text)
    text = "choose by f1; by precision:P, the lowest score with this precision on DATASETS.TEST; or by frequencies, so "
    text += "that classes are as frequent as in DATASETS.TRAIN"
    parser.add_argument("--choose-by", dest="choose_thresholds", metavar="HOW", help=text)
    text = "write how far each box moves under jitter, too: for PSEUDO_LABELS.MAX_BOX_VARIANCE"
    parser.add_argument("--box-variance", action="store_true", help=text)
    text = "number of images, of one size, that the teacher sees at once, at most; default: %(default)s"
    parser.add_argument("--batch", type=int, default=1, metavar="N", help=text)
    text = "share of unreadable images that is allowed; they are named at the end; default: %(default)s"
    parser.add_argument("--max-unreadable", type=float, default=0.01, metavar="S", help=text)
    add_processes(parser)
    add_words(parser, "--weights W", "[IMAGES ...]")
    parser.set_defaults(first=_first_of_label)


def _first_of_label(args: argparse.Namespace) -> None:
    """Refuse images that are not there, and a folder with files, which labels would be mixed with."""
    from densedist import early
    from densedist.common.locks import refuse_files

    refuse_missing(args.files)
    if not args.files:
        first = args.found[0] if args.weights else None
        named = (first.config, first.overrides) if first else (args.config_file, args.overrides)
        early.check_unlabeled(args.task, *named)
    if not args.resume:
        refuse_files(args.output_dir, "--output-dir")


def label(args: argparse.Namespace) -> None:
    from densedist import api

    run = partial(
        api.label,
        args.weights,
        args.files,
        args.overrides,
        config=args.config_file,
        output_dir=args.output_dir,
        score_threshold=args.score_threshold,
        ignore_threshold=args.ignore_threshold,
        choose_thresholds=args.choose_thresholds,
        box_variance=args.box_variance,
        resume=args.resume,
        batch=args.batch,
        max_unreadable=args.max_unreadable,
        task=args.task,
    )
    in_processes(args, run)


def add_import(parser: Parser) -> None:
    """Convert another project's checkpoint into a teacher."""
    parser.epilog = "The result is used like the OUTPUT_DIR of a run: DISTILL.TEACHER.WEIGHTS D, or --weights D."
    text = "project that the file comes from; default: recognized from the names of its tensors"
    parser.add_argument("--source", default="", metavar="S", help=text)
    parser.add_argument("--form", default="", help=argparse.SUPPRESS)  # its former name
    text = "a fact that the file does not contain, e.g. style=caffe; repeatable"
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help=text)
    add_config(parser, "config whose DATASETS name the classes, which the file does not contain")
    add_output(parser, "output/imported")
    add_words(parser, "FILE")
    parser.set_defaults(takes_files=True, first=_first_of_import)


def _first_of_import(args: argparse.Namespace) -> None:
    from densedist.common.errors import UserError
    from densedist.common.locks import refuse_files

    if len(args.files) != 1:
        raise UserError(f"give one FILE, not {len(args.files)}")
    refuse_missing(args.files)
    refuse_files(args.output_dir, "--output-dir")


def import_weights(args: argparse.Namespace) -> None:
    from densedist import api

    record = api.import_weights(
        args.files[0],
        args.overrides,
        source=args.source,
        form=args.form,
        config=args.config_file,
        options=dict(word.partition("=")[::2] for word in args.option),
        output_dir=args.output_dir,
        task=args.task,
    )
    unused = f", of which {len(record['unused'])} are not used" if record["unused"] else ""
    print(f"{args.output_dir}: {record['tensors']} tensors of {record['source']}{unused}; see imported.json there")
