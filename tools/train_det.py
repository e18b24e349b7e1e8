"""Train a detector: densedist train det …"""

import sys

from densedist.command import main

if __name__ == "__main__":
    main(["train", "det", *sys.argv[1:]])
