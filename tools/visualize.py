"""Draw a student beside its teacher: densedist visualize …"""

import sys

from densedist.command import main

if __name__ == "__main__":
    main(["visualize", *sys.argv[1:]])
