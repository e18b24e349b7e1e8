"""The commands about teachers: label, import."""

import argparse

from densedist.command.arguments import (
    Parser,
    add_config,
    add_output,
    add_score,
    add_weights,
    add_words,
)


def add_label(parser: Parser) -> None:
    """Write what a teacher sees in images as labels to train on."""
    parser.epilog = "Without IMAGES those of DATASETS.UNLABELED; several --weights are fused."
    add_weights(parser, several=True)
    add_output(parser, "output/labels")
    add_score(parser, "0.5")
    text = "boxes from this score up to --score-threshold are neither objects nor background"
    parser.add_argument("--ignore-threshold", type=float, metavar="S", help=text)
    text = "for each class, take the score threshold where F1 on DATASETS.TEST is best"
    parser.add_argument("--choose-thresholds", action="store_const", const="f1", default="", help=text)
    text = "choose by f1; by precision:P, the least score of this precision on DATASETS.TEST; or by frequencies, so "
    text += "that classes are as frequent as in DATASETS.TRAIN"
    parser.add_argument("--choose-by", dest="choose_thresholds", metavar="HOW", help=text)
    add_words(parser, "--weights W", "[IMAGES ...]")


def label(args: argparse.Namespace) -> None:
    from densedist import api

    api.label(
        args.weights,
        args.files,
        args.overrides,
        config=args.config_file,
        output_dir=args.output_dir,
        score_threshold=args.score_threshold,
        ignore_threshold=args.ignore_threshold,
        choose_thresholds=args.choose_thresholds,
        task=args.task,
    )


def add_import(parser: Parser) -> None:
    """Write another project's checkpoint as a teacher."""
    parser.epilog = "What is written is named like the OUTPUT_DIR of a run: --weights D, dist@TEACHER=D."
    text = "project that the file comes from; default: the one that its tensors' names show"
    parser.add_argument("--source", default="", metavar="S", help=text)
    parser.add_argument("--form", default="", help=argparse.SUPPRESS)  # its former name
    text = "what the file does not say, e.g. style=caffe; may be given several times"
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help=text)
    add_config(parser, "config whose DATASETS name the classes, which the file does not")
    add_output(parser, "output/imported")
    add_words(parser, "FILE")
    parser.set_defaults(takes_files=True)


def import_weights(args: argparse.Namespace) -> None:
    from densedist import api
    from densedist.common.errors import UserError

    if len(args.files) != 1:
        raise UserError(f"want one FILE, got {len(args.files)}")
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
