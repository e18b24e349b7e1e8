"""COCO AP of a trained detector: densedist eval det …"""

import sys

from densedist.command import main

if __name__ == "__main__":
    main(["eval", "det", *sys.argv[1:]])
