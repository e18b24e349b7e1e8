"""How far a labeling is: a bar on a terminal, a line now and then in a log."""

import time
from collections.abc import Callable

from detectron2.utils import comm
from tqdm import tqdm

from densedist.common.logging import on_terminal
from densedist.common.words import duration

SHOWN = 60.0  # seconds between two lines
COUNTED = 2.0  # seconds between two looks at what all processes have done


class Progress:
    """The images that all processes have labeled, their rate and the time that remains; the main process shows it.

    Args:
        total: images of the job.
        written: returns how many are in shards.
    """

    def __init__(self, total: int, written: Callable[[], int]) -> None:
        self.total, self._written = total, written
        self._shows, self._start = comm.is_main_process(), time.monotonic()
        self._begun = written() if self._shows else 0
        bar = self._shows and on_terminal()
        self._bar = tqdm(desc="labeling", total=total, initial=self._begun, unit="image", disable=not bar)
        self._counted = self._said = self._start

    def update(self, own: int = 0) -> None:
        """Show how far the job is.

        Args:
            own: images of this process that are in no shard yet.
        """
        now = time.monotonic()
        if not self._shows or now < self._counted + COUNTED:
            return
        self._counted, done = now, min(self._written() + own, self.total)
        self._bar.update(done - self._bar.n)
        if self._bar.disable and now > self._said + SHOWN:
            self._said = now
            print(in_words(done, self.total, self._begun, now - self._start), flush=True)

    def close(self) -> None:
        """Show the end."""
        if self._shows:
            self._bar.update(self._written() - self._bar.n)
        self._bar.close()


def in_words(done: int, total: int, begun: int, seconds: float) -> str:
    """Return how far a job is, in a line.

    Args:
        done: images so far.
        begun: of these, those of earlier runs.
        seconds: that the others took.
    """
    rate = (done - begun) / seconds
    left = f", {duration((total - done) / rate)} left" if rate else ""
    return f"labeling: {done} of {total} images, {rate:.3g} images/s{left}"
