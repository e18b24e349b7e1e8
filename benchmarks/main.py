"""The parts of the benchmark, one by one or all: a table each, and the figures behind it as JSON."""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

START, COMMANDS = "start", "commands"
PARTS = ("losses", "teacher", "step", "loops", "data", "eval", "long_run")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the arguments say, those of the process by default."""
    parser = argparse.ArgumentParser(description="this project's own speed")
    parser.add_argument("what", choices=["all", *PARTS, START, COMMANDS], help=f"all is {', '.join(PARTS)}")
    parser.add_argument("--images", type=int, metavar="N", help=f"of {START}; default: as many as COCO has")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="of the images; not for losses")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    args = parser.parse_args(argv)
    size = (args.size[0], args.size[1]) if args.size else None
    if args.what == START:
        from benchmarks.det import start

        start.main(args.json, args.images or start.IMAGES)
        return
    if args.what == COMMANDS:
        from benchmarks import commands

        commands.main(args.json)
        return
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
        from benchmarks import losses

        losses.main(file)
    elif what == "step":
        from benchmarks import step
        from benchmarks.det.step import case as det_case
        from benchmarks.seg.step import case as seg_case
        from densedist.common.profile import best_device

        device = best_device()
        step.main([det_case(device, size), seg_case(device, size)], device, file)
    elif what == "loops":
        from benchmarks import loops
        from benchmarks.det.loop import case as det_loop
        from benchmarks.seg.loop import case as seg_loop
        from densedist.common.profile import best_device

        device = best_device()
        loops.main([seg_loop(device, size), det_loop(device, size)], device, file)
    elif what == "teacher":
        from benchmarks.det import teacher

        teacher.main(file, size)
    elif what == "data":
        from benchmarks.seg import data

        data.main(file, size)
    elif what == "long_run":
        from benchmarks import long_run
        from densedist.seg.task import TASK

        long_run.main(TASK, file)
    else:
        from benchmarks.seg import eval

        eval.main(file, size)
