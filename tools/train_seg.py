"""Train a segmentation model: densedist train seg …"""

import sys

from densedist.command import main

if __name__ == "__main__":
    main(["train", "seg", *sys.argv[1:]])
