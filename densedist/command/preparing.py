"""The command that writes a data set anew, as training reads it, or reads it faster: prepare."""

import argparse
from pathlib import Path

from densedist.command.arguments import Parser, add_output


def add_prepare(parser: Parser) -> None:
    """a data set written anew: densedist prepare seg|camvid FOLDER --output-dir D"""
    parser.epilog = "Then train with DATASETS.ROOT D."
    form = "seg: Cityscapes' form, the same pixels uncompressed; camvid: SegNet's folders, for configs/seg/camvid"
    parser.add_argument("form", choices=["seg", "camvid"], help=form)
    parser.add_argument("source", type=Path, metavar="FOLDER", help="the data set as it is")
    add_output(parser, "output/prepared")


def prepare(args: argparse.Namespace) -> None:
    from densedist.common.locks import claimed

    output = Path(args.output_dir)
    with claimed(output, "--output-dir"):
        wrote = _prepare(args.form, args.source, output)
    print(f"{output}: {wrote}; train with DATASETS.ROOT {output}")


def _prepare(form: str, source: Path, output: Path) -> str:
    """Write the data set; what was written, in words."""
    if form == "camvid":
        from densedist.seg.data.camvid import prepare_camvid

        return f"{prepare_camvid(source, output)} frames"
    from densedist.seg.data import preparing

    count, there = preparing.prepare(source, output)
    return f"{count} files" + (f", {there} of which were there" if there else "")
