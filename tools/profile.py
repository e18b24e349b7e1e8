"""What a student costs beside its teacher: profile.py --weights W [--teacher WT] [--size H W …]."""

import argparse
from importlib import import_module
from pathlib import Path

from densedist.common.benchmark.inference import main as measure
from densedist.common.benchmark.measure import best_device
from densedist.common.config.merge import find_config
from densedist.common.errors import UserError
from densedist.common.engine.launch import guarded
from densedist.common.engine.locate import locate, task


def main(args: argparse.Namespace) -> None:
    if len(args.size) % 2 or min(args.size, default=1) < 1:
        raise UserError(f"--size is {' '.join(map(str, args.size))}: want pairs of height and width, each 1 or more")
    given = args.config_file and find_config(args.config_file, "--config-file")
    weights, config_file = locate(args.weights, given)
    device = best_device()
    load = import_module(f"{task(config_file)}.profiling").load
    subjects, usual, note = load(weights, config_file, args.teacher, device.type)
    if len(subjects) == 1:
        print("Without a teacher: none is named by the config, or --teacher is none.")
    sizes = list(zip(args.size[::2], args.size[1::2], strict=True)) or [usual]
    measure(subjects, sizes, note, device, args.json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True, metavar="W", help="of the student: checkpoint or OUTPUT_DIR")
    parser.add_argument("--teacher", default="", metavar="WT", help="its weights, or none; default: as in the config")
    parser.add_argument("--config-file", default="", metavar="F", help="default: the config.yaml beside the weights")
    parser.add_argument("--size", type=int, nargs="+", default=[], metavar="N", help="height and width, once or more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    guarded(main, parser.parse_args())
