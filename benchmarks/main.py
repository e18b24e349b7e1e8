"""The parts of the benchmark, one by one or all: a table each, and the figures behind it as JSON."""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

START, PEAKS, COMMANDS, RUNTIMES = "start", "peaks", "commands", "runtimes"
PARTS = ("losses", "launches", "teacher", "step", "loops", "runs", "data", "eval", "long_run")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the arguments say, those of the process by default."""
    parser = argparse.ArgumentParser(description="this project's own speed")
    others = [PEAKS, START, COMMANDS, RUNTIMES]
    parser.add_argument("what", choices=["all", *PARTS, *others], help=f"all is {', '.join(PARTS)}")
    text = "cuda or cpu, for what runs on either; default: a GPU, if PyTorch finds one"
    parser.add_argument("--device", choices=["cuda", "cpu"], help=text)
    help = f"folders of trained students, of {RUNTIMES}, with what densedist export wrote beside them"
    parser.add_argument("--weights", type=Path, nargs="+", default=[], metavar="W", help=help)
    parser.add_argument("--compile", action="store_true", help=f"in {RUNTIMES} also by torch.compile")
    parser.add_argument("--images", type=int, metavar="N", help=f"of {START}; default: as many as COCO has")
    text = f"of {START}: as many processes of one machine at once, in place of the turns"
    parser.add_argument("--processes", type=int, default=1, metavar="N", help=text)
    parser.add_argument("--steps", type=int, metavar="N", help="of long_run, and of each training of runs")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="of the images; not for losses")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    args = parser.parse_args(argv)
    size = (args.size[0], args.size[1]) if args.size else None
    if args.what == START:
        from benchmarks.det import start

        start.main(args.json, args.images or start.IMAGES, args.processes)
        return
    if args.what == RUNTIMES:
        if not args.weights:
            parser.error(f"{RUNTIMES}: name the folders of trained students with --weights")
        from benchmarks import runtimes

        runtimes.main(args.weights, args.compile, args.json)
        return
    if args.what == COMMANDS:
        from benchmarks import commands

        commands.main(args.json)
        return
    if args.what == PEAKS:
        from benchmarks import peaks

        peaks.main(args.json, size)
        return
    found = torch.cuda.is_available()
    if args.device == "cuda" and not found:
        parser.error("--device cuda: PyTorch finds no GPU; --device cpu runs the same there")
    if not found and args.device is None:
        print("PyTorch finds no GPU: all of it is measured on the CPU", flush=True)
    device = torch.device(args.device or ("cuda" if found else "cpu"))
    if args.what != "all":
        _measure(args.what, device, size, args.steps, args.json)
        return
    figures, failed = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for what in PARTS:
            try:
                _measure(what, device, size, None, file := Path(folder) / what)
            except SystemExit:  # it has written its figures, and shown what failed
                failed.append(what)
            print(flush=True)
            figures[what] = json.loads(file.read_text())
            if args.json:  # after each: a part that fails loses nothing
                args.json.write_text(json.dumps(figures, indent=2) + "\n")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _measure(
    what: str, device: torch.device, size: tuple[int, int] | None, steps: int | None, file: Path | None
) -> None:
    """Print the table of a part, with the device's name; write its figures to file."""
    if what == "losses":
        from benchmarks import losses

        losses.main(device, file)
    elif what == "launches":
        from benchmarks import launches

        launches.main(file, size)
    elif what == "step":
        from benchmarks import step
        from benchmarks.det.step import case as det_case
        from benchmarks.seg.step import case as seg_case

        step.main([det_case(device, size), seg_case(device, size)], device, file)
    elif what == "loops":
        from benchmarks import loops
        from benchmarks.det.loop import case as det_loop
        from benchmarks.seg.loop import case as seg_loop

        loops.main([seg_loop(device, size), det_loop(device, size)], device, file)
    elif what == "runs":
        from benchmarks import runs

        runs.main(device, file, steps or runs.STEPS)
    elif what == "teacher":
        from benchmarks.det import teacher

        teacher.main(device, file, size)
    elif what == "data":
        from benchmarks.seg import data

        data.main(file, size)
    elif what == "long_run":
        from benchmarks import long_run
        from densedist.seg.task import TASK

        long_run.main(TASK, file, steps or long_run.ITERATIONS)
    else:
        from benchmarks.seg import eval

        eval.main(device, file, size)
