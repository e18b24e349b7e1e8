"""python -m densedist"""

from densedist.command import main

if __name__ == "__main__":
    main()
