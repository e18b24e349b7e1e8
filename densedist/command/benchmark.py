"""The command that measures this project's own speed."""

import argparse
import json
import tempfile
from pathlib import Path

from densedist.command.arguments import Parser

PARTS = ("losses", "teacher", "step", "loops", "data", "eval")


def add_benchmark(parser: Parser) -> None:
    """this project's own speed: densedist benchmark all|losses|teacher|step|loops|data|eval"""
    parser.add_argument("what", choices=["all", *PARTS])
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="of the images; not for losses")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")


def benchmark(args: argparse.Namespace) -> None:
    size = (args.size[0], args.size[1]) if args.size else None
    if args.what != "all":
        _measure(args.what, size, args.json)
        return
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for what in PARTS:
            _measure(what, size, file := Path(folder) / what)
            print(flush=True)
            figures[what] = json.loads(file.read_text())
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def _measure(what: str, size: tuple[int, int] | None, file: Path | None) -> None:
    """Print the table of a part, with the device's name; write its figures to file."""
    if what == "losses":
        from densedist.common.benchmark import losses

        losses.main(file)
    elif what == "step":
        from densedist.common.benchmark import step
        from densedist.common.benchmark.measure import best_device
        from densedist.det.benchmark.step import case as det_case
        from densedist.seg.benchmark.step import case as seg_case

        device = best_device()
        step.main([det_case(device, size), seg_case(device, size)], device, file)
    elif what == "loops":
        from densedist.common.benchmark import loops
        from densedist.common.benchmark.measure import best_device
        from densedist.det.benchmark.loop import case as det_loop
        from densedist.seg.benchmark.loop import case as seg_loop

        device = best_device()
        loops.main([seg_loop(device, size), det_loop(device, size)], device, file)
    elif what == "teacher":
        from densedist.det.benchmark import teacher

        teacher.main(file, size)
    elif what == "data":
        from densedist.seg.benchmark import data

        data.main(file, size)
    else:
        from densedist.seg.benchmark import eval

        eval.main(file, size)
