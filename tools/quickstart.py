"""See the method work in minutes, on data made on the spot: quickstart.py det [--output-dir D] [--seed S]."""

import argparse
from pathlib import Path

import det.quickstart

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["det"])
    parser.add_argument("--output-dir", type=Path, default=Path("output/quickstart"), metavar="D")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    args = parser.parse_args()
    det.quickstart.run(args.output_dir / args.task, args.seed)
