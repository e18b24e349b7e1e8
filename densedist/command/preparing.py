"""The command that writes a data set anew, so that it is read faster: prepare."""

import argparse
from pathlib import Path

from densedist.command.arguments import Parser, add_output


def add_prepare(parser: Parser) -> None:
    """a data set that is read faster: densedist prepare seg FOLDER --output-dir D"""
    parser.epilog = "Then train with DATASETS.ROOT D. The pixels are the same, uncompressed."
    parser.add_argument("task", choices=["seg"], help="whose form the data has: Cityscapes'")
    parser.add_argument("source", type=Path, metavar="FOLDER", help="the data set, as in DATASETS.ROOT")
    add_output(parser, "output/prepared")


def prepare(args: argparse.Namespace) -> None:
    from densedist.seg.data import preparing

    count, there = preparing.prepare(args.source, Path(args.output_dir))
    kept = f", {there} of which were there" if there else ""
    print(f"{args.output_dir}: {count} files{kept}; train with DATASETS.ROOT {args.output_dir}")
