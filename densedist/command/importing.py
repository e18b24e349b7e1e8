"""The command that writes another project's checkpoint as one of ours: import."""

import argparse

from densedist.command.arguments import Parser, add_config, add_output, add_overrides, add_task, files_and_overrides


def add_import(parser: Parser) -> None:
    """another project's checkpoint as a teacher: densedist import det|seg FILE --output-dir D [KEY VALUE …]"""
    parser.epilog = "What is written is named like the OUTPUT_DIR of a run: --weights D, dist@TEACHER=D."
    add_task(parser)
    parser.add_argument("--form", default="", metavar="F", help="what the file is; default: as its tensors' names say")
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
        form=args.form,
        config=args.config_file,
        options=dict(word.partition("=")[::2] for word in args.option),
        output_dir=args.output_dir,
        task=args.task,
    )
    unused = f", of which {len(record['unused'])} are not used" if record["unused"] else ""
    print(f"{args.output_dir}: {record['tensors']} tensors of form {record['form']}{unused}; see imported.json there")
