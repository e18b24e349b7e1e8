"""Predict images: densedist predict …"""

import sys

from densedist.command import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
