"""See the method work in minutes, on data made on the spot: quickstart.py det|seg [--output-dir D] [--seed S]."""

import argparse
from importlib import import_module
from pathlib import Path

from densedist.common.engine.launch import guarded
from densedist.common.quickstart import run


def main(args: argparse.Namespace) -> None:
    task = import_module(f"{args.task}.quickstart").TASK  # the other side need not even be importable
    run(task, args.output_dir / args.task, args.seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["det", "seg"])
    parser.add_argument("--output-dir", type=Path, default=Path("output/quickstart"), metavar="D")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    guarded(main, parser.parse_args())
