"""Compare distillation methods: densedist compare …"""

import sys

from densedist.command import main

if __name__ == "__main__":
    main(["compare", *sys.argv[1:]])
