"""The command that measures this project's own speed."""

import argparse
from pathlib import Path

from densedist.command.arguments import Parser


def add_benchmark(parser: Parser) -> None:
    """this project's own speed: densedist benchmark losses|teacher|step|data|eval"""
    parser.add_argument("what", choices=["losses", "teacher", "step", "data", "eval"])
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="of the images; not for losses")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")


def benchmark(args: argparse.Namespace) -> None:
    size = tuple(args.size) if args.size else None
    if args.what == "losses":
        from densedist.common.benchmark import losses

        losses.main(args.json)
    elif args.what == "step":
        from densedist.common.benchmark import step
        from densedist.common.benchmark.measure import best_device
        from densedist.det.benchmark.step import case as det_case
        from densedist.seg.benchmark.step import case as seg_case

        device = best_device()
        step.main([det_case(device, size), seg_case(device, size)], device, args.json)
    elif args.what == "teacher":
        from densedist.det.benchmark import teacher

        teacher.main(args.json, size)
    elif args.what == "data":
        from densedist.seg.benchmark import data

        data.main(args.json, size)
    else:
        from densedist.seg.benchmark import eval

        eval.main(args.json, size)
