"""This project's own speed: benchmarks/speed.md."""

from benchmarks.main import main

if __name__ == "__main__":
    main()
