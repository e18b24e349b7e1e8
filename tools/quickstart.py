"""See the method work in minutes: densedist quickstart …"""

import sys

from densedist.command import main

if __name__ == "__main__":
    main(["quickstart", *sys.argv[1:]])
