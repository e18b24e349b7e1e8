"""A student beside its teacher and the truth: visualize.py --weights W [--teacher WT] [FOLDER] [--opts KEY VALUE …].

Writes to --output a picture of each image, overview.png, and relations.png: the correlations among the classes that
DIST compares.
"""

import argparse
from importlib import import_module
from pathlib import Path

from densedist.common.errors import UserError
from densedist.common.engine.launch import guarded
from densedist.common.engine.locate import locate, task


def main(args: argparse.Namespace) -> None:
    if args.images < 1:
        raise UserError(f"--images is {args.images}: want 1 or more")
    _, config_file = locate(args.weights, args.config_file)
    import_module(f"{task(config_file)}.visualize").main(args)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("folder", nargs="?", metavar="FOLDER", help="of images; default: the split of DATASETS.TEST")
    result.add_argument("--weights", required=True, metavar="W", help="checkpoint, or the OUTPUT_DIR of a training")
    result.add_argument("--teacher", default="", metavar="WT", help="or none; default: DISTILL.TEACHER of the config")
    result.add_argument("--config-file", default="", metavar="F", help="default: config.yaml beside the weights")
    result.add_argument("--output", type=Path, default=Path("output/visualize"), metavar="D")
    result.add_argument("--images", type=int, default=8, metavar="N", help="how many, from the first")
    result.add_argument(
        "--score-threshold", type=float, metavar="S", help="of a detector's boxes; default: where its F1 is best"
    )
    result.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs that change the config")
    result.add_argument("--debug", action="store_true", help="show the traceback of a user error")
    return result


if __name__ == "__main__":
    guarded(main, parser().parse_args())
