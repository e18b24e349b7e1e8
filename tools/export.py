"""Export a student: densedist export …"""

import sys

from densedist.command import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
