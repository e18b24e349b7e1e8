"""What a student costs: densedist profile …"""

import sys

from densedist.command import main

if __name__ == "__main__":
    main(["profile", *sys.argv[1:]])
