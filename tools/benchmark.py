"""How fast this project is here, beside the straightforward way: benchmark.py losses [--json FILE]."""

import argparse
from importlib import import_module
from pathlib import Path

from common.launch import guarded


def main(args: argparse.Namespace) -> None:
    import_module(f"common.benchmark.{args.what}").main(args.json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["losses"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    guarded(main, parser.parse_args())
