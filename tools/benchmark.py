"""How fast this project is here, beside the straightforward way: benchmark.py losses|teacher|step|data|eval."""

import argparse
from importlib import import_module
from pathlib import Path

from densedist.common.benchmark.measure import best_device
from densedist.common.engine.launch import guarded


def main(args: argparse.Namespace) -> None:
    size = tuple(args.size) if args.size else None
    if args.what == "losses":
        import_module("common.benchmark.losses").main(args.json)
    elif args.what == "step":
        device = best_device()
        cases = [import_module(f"{task}.benchmark.step").case(device, size) for task in ("det", "seg")]
        import_module("common.benchmark.step").main(cases, device, args.json)
    else:
        task = "det" if args.what == "teacher" else "seg"
        import_module(f"{task}.benchmark.{args.what}").main(args.json, size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["losses", "teacher", "step", "data", "eval"])
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of the images; not for losses")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    guarded(main, parser.parse_args())
