"""This project's own speed: densedist benchmark …"""

import sys

from densedist.command import main

if __name__ == "__main__":
    main(["benchmark", *sys.argv[1:]])
