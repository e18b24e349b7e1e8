"""What is said along the way: lines of a log and of the console, and what libraries say left out."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

from detectron2.utils.logger import setup_logger
from tqdm import tqdm

LOGGERS = ("detectron2", "fvcore", "densedist")
METRIC_LINES = "detectron2.utils.events"  # where Detectron2's CommonMetricPrinter logs


class _Console(logging.Handler):
    """Log lines on standard output, above a bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def on_terminal() -> bool:
    """Whether standard output is one, where progress is shown as a bar."""
    return sys.stdout.isatty()


def setup_logs(output_dir: str, rank: int) -> None:
    """Log to output_dir/log.txt (log.txt.rank1, … from other processes) and, from rank 0, to the console.

    On a terminal the periodic lines of metrics go to the file only: there the bar shows the progress.
    """
    console = _Console()
    console.setFormatter(logging.Formatter("[%(asctime)s %(name)s] %(message)s", datefmt="%m/%d %H:%M:%S"))
    if on_terminal():
        console.addFilter(lambda record: record.name != METRIC_LINES)
    # Another run in this process may have set them up before.
    setup_logger.cache_clear()
    for name in LOGGERS:
        logging.getLogger(name).handlers.clear()
        logger = setup_logger(output_dir, rank, name=name, configure_stdout=False)
        if rank == 0:
            logger.addHandler(console)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps back what libraries log, warn of and print along the way."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
