"""Train a detector, with or without a teacher: train_det.py --config-file F [--num-gpus N] [KEY VALUE …]."""

from densedist.common.engine.launch import parser, run
from densedist.det.task import main

if __name__ == "__main__":
    run(main, parser(__doc__))
