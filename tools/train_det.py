"""Train a detector, with or without a teacher: train_det.py --config-file F [--num-gpus N] [KEY VALUE …]."""

from common.launch import parser, run
from det.training import main

if __name__ == "__main__":
    run(main, parser(__doc__))
