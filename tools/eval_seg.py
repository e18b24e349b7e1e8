"""mIoU of a trained segmentation model: eval_seg.py --config-file F --weights W [KEY VALUE …]."""

import argparse

from densedist.common.engine.launch import parser, run
from densedist.seg.task import evaluate_weights, load_config


def main(args: argparse.Namespace) -> None:
    evaluate_weights(load_config(args.config_file, args.opts), args.weights, "--weights")


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--weights", required=True, metavar="W", help="checkpoint, or SMP folder")
    run(main, arguments)
