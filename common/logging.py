"""Log lines on the console and in a file; chatter of libraries is left out."""

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from densedist.common.run_names import LOG

WARNINGS = "py.warnings"  # where logging puts warnings
LOGGERS = ("detectron2", "fvcore", "densedist", WARNINGS)
PRINTED = "densedist.printed"  # where printed_to_log logs
TABLES = ("densedist.seg.evaluation", "densedist.det.evaluation", PRINTED)  # scores of each class


class _Console(logging.Handler):
    """Log lines on standard output, above a bar if there is one.

    Args:
        stream: where to; None = what is standard output at the time.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout if self._stream is None or self._stream.closed else self._stream
        tqdm.write(self.format(record), file=stream)
        stream.flush()


class _Brief(logging.Formatter):
    """A line without time and logger, in which a warning is called one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the name is logging's
        line = super().formatMessage(record)
        return f"{record.levelname.lower()}: {line}" if record.levelno >= logging.WARNING else line


def call_warnings_so() -> None:
    """Let lines on standard error, where warnings go before setup_logs, begin with "warning: "."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Brief())


def on_terminal() -> bool:
    """Return whether standard output is a terminal, where progress is shown as a bar."""
    return sys.stdout.isatty()


def setup_logs(rank: int, brief: bool = False) -> "LogFile":
    """Log to the console, from rank 0, and for a file that is opened once it is clear that there is a run.

    Args:
        brief: what libraries log and warn of, and tables of scores, go to the file only: a bar shows the progress.
    """
    console, file = _Console(sys.stdout if brief else None), LogFile()
    if brief:
        console.setFormatter(_Brief("%(message)s"))
        console.addFilter(_is_for_users)
        logging.captureWarnings(True)
    else:
        console.setFormatter(logging.Formatter("[%(asctime)s %(name)s] %(message)s", datefmt="%m/%d %H:%M:%S"))
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


@contextmanager
def printed_to_log() -> Iterator[None]:
    """Log what libraries print within the block, as pycocotools do; a brief console does not show it."""
    with redirect_stdout(StringIO()) as printed:
        yield
    if text := printed.getvalue().strip():
        logging.getLogger(PRINTED).info(text)


@contextmanager
def recorded(package: str) -> Iterator[list[tuple[str, int, str]]]:
    """Collect what the modules of a package log within the block, beside logging it: logger, level and text."""
    lines: list[tuple[str, int, str]] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((record.name, record.levelno, record.getMessage()))  # type: ignore[method-assign]
    logger = logging.getLogger(package)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def logged_again(lines: Iterable[tuple[str, int, str]]) -> None:
    """Log what was recorded."""
    for name, level, text in lines:
        logging.getLogger(name).log(level, text)


def _is_for_users(record: logging.LogRecord) -> bool:
    if record.name.startswith("densedist"):
        return record.levelno >= logging.WARNING or record.name not in TABLES
    return record.levelno >= logging.WARNING and record.name != WARNINGS


class LogFile(MemoryHandler):
    """Log lines, kept until their file is known."""

    def __init__(self) -> None:
        super().__init__(sys.maxsize, sys.maxsize, flushOnClose=False)

    def open(self, output_dir: str, rank: int) -> None:
        """Write them to output_dir/log.txt (log.txt.rank1, … of other processes), and what comes at once."""
        file = logging.FileHandler(Path(output_dir, f"{LOG}.rank{rank}" if rank else LOG))
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
