"""mIoU of a trained segmentation model: densedist eval seg …"""

import sys

from densedist.command import main

if __name__ == "__main__":
    main(["eval", "seg", *sys.argv[1:]])
