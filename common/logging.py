"""Log lines on the console and in a file; chatter of libraries is left out."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from logging.handlers import MemoryHandler
from pathlib import Path

from tqdm import tqdm

LOGGERS = ("detectron2", "fvcore", "densedist")
METRIC_LINES = "detectron2.utils.events"  # where Detectron2's CommonMetricPrinter logs


class _Console(logging.Handler):
    """Log lines on standard output, above a bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def on_terminal() -> bool:
    """Return whether standard output is a terminal, where progress is shown as a bar."""
    return sys.stdout.isatty()


def setup_logs(rank: int) -> "LogFile":
    """Log to the console, from rank 0, and for a file that is opened once it is clear that there is a run.

    On a terminal the periodic lines of metrics go to the file only: there the bar shows the progress.
    """
    console, file = _Console(), LogFile()
    console.setFormatter(logging.Formatter("[%(asctime)s %(name)s] %(message)s", datefmt="%m/%d %H:%M:%S"))
    if on_terminal():
        console.addFilter(lambda record: record.name != METRIC_LINES)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):  # of another run in this process
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        for handler in [file, console][: 2 if rank == 0 else 1]:
            logger.addHandler(handler)
    return file


class LogFile(MemoryHandler):
    """Log lines, kept until their file is known."""

    def __init__(self) -> None:
        super().__init__(sys.maxsize, sys.maxsize, flushOnClose=False)

    def open(self, output_dir: str, rank: int) -> None:
        """Write them to output_dir/log.txt (log.txt.rank1, … of other processes), and what comes at once."""
        file = logging.FileHandler(Path(output_dir, f"log.txt.rank{rank}" if rank else "log.txt"))
        file.setFormatter(logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s", "%m/%d %H:%M:%S"))
        self.setTarget(file)
        self.flush()
        self.capacity = 1


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what libraries log, warn of and print within the block."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
