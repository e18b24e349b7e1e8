"""A trained student for those who run it elsewhere: export.py --weights W --format weights,onnx,torch [KEY VALUE …]."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from densedist.common.config.merge import find_config
from densedist.common.errors import UserError
from densedist.common.export import FORMATS, parse_formats
from densedist.common.engine.launch import guarded
from densedist.common.onnx_files import check_packages
from densedist.common.engine.locate import locate, task


def main(args: argparse.Namespace) -> None:
    formats = parse_formats(args.format)
    if "onnx" in formats:
        check_packages()
    if args.images < 1:
        raise UserError(f"--images is {args.images}: want 1 or more")
    config_file = args.config_file and find_config(args.config_file, "--config-file")
    weights, config_file = locate(args.weights, config_file)
    output = args.output or Path(weights).parent / "export"
    export = import_module(f"{task(config_file)}.export").export
    failures = export(weights, config_file, args.opts, formats, output, args.images, args.image_folder)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True, metavar="W", help="checkpoint, OUTPUT_DIR, or SMP folder")
    parser.add_argument("--config-file", default="", metavar="F", help="default: the config.yaml beside the weights")
    parser.add_argument("--format", default=",".join(FORMATS), help="names joined by commas; default: all")
    parser.add_argument("--output", type=Path, metavar="D", help="default: export beside the weights")
    parser.add_argument("--images", type=int, default=16, metavar="N", help="of DATASETS.TEST, to compare on")
    parser.add_argument("--image-folder", type=Path, metavar="D", help="compare on images of this folder instead")
    parser.add_argument("opts", nargs="*", help="KEY VALUE pairs that change keys of the config")
    guarded(main, parser.parse_intermixed_args())
