"""Pictures and predictions of a trained model: predict.py --weights W [--output D] IMAGES … [--opts KEY VALUE …]."""

import argparse
from importlib import import_module
from pathlib import Path

from densedist.common.engine.launch import guarded
from densedist.common.engine.locate import locate, task


def main(args: argparse.Namespace) -> None:
    _, config_file = locate(args.weights, args.config_file)
    import_module(f"{task(config_file)}.predict").main(args)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("images", nargs="*", metavar="IMAGES", help="files or folders")
    result.add_argument("--weights", required=True, metavar="W", help="checkpoint, or the OUTPUT_DIR of a training")
    result.add_argument("--config-file", default="", metavar="F", help="default: config.yaml beside the weights")
    result.add_argument("--output", type=Path, default=Path("output/predict"), metavar="D")
    result.add_argument("--score-threshold", type=float, metavar="S", help="of a detector's boxes; default 0.5")
    result.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs that change the config")
    result.add_argument("--debug", action="store_true", help="show the traceback of a user error")
    return result


if __name__ == "__main__":
    guarded(main, parser().parse_args())
