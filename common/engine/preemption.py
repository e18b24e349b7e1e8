"""Preemption: on SIGTERM or Ctrl-C write a checkpoint, and end; the exit code of SIGTERM asks for a requeue."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from detectron2.utils import comm

from densedist.common.distributed import any_process

logger = logging.getLogger(__name__)
REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: try again
PATIENCE = 40.0  # seconds until a process gives up on the step that it is in
SIGNALS = signal.SIGTERM, signal.SIGINT


class Preemption:
    """Listens for SIGTERM and SIGINT, which is Ctrl-C, within a `with` block.

    During a step the signal waits for the step's end, where all processes agree on it; a process whose peers
    have died would wait forever, hence PATIENCE. Within at_once() it ends the process there and then, and so does a
    second SIGINT anywhere.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._at_once = False
        self._asked: int | None = None  # by which signal
        self._watchdog = threading.Timer(PATIENCE, os._exit, [REQUEUE])
        self._watchdog.daemon = True

    def __enter__(self) -> "Preemption":
        # Only the main thread may listen; a run in another one is not preempted. What the shell has this process
        # ignore, as SIGINT in the background, stays ignored.
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            heard = [one for one in SIGNALS if signal.getsignal(one) != signal.SIG_IGN]
            self._before = {one: signal.signal(one, self._hear) for one in heard}
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self._at_once or (number == self._asked == signal.SIGINT):
            self._asked = number
            self.leave()
        if self._asked is None:
            self._asked = number
            if number == signal.SIGINT:
                logger.info("Ctrl-C: writing a checkpoint after this step; once more ends at once")
            if comm.get_world_size() > 1:
                self._watchdog.start()

    def agreed(self) -> bool:
        """Return whether any process was asked to end. All processes call it together."""
        agreed = any_process(self._asked is not None, self._device)
        if agreed:
            self._watchdog.cancel()
        return agreed

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end the process within the block, as everything before it is saved."""
        if self._asked is not None:
            self.leave()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def leave(self) -> None:
        """End the process.

        Raises:
            SystemExit: with REQUEUE, after SIGTERM.
            KeyboardInterrupt: after Ctrl-C.
        """
        if self._asked == signal.SIGINT:
            logger.info("Ctrl-C: ending; --resume continues from the last checkpoint")
            raise KeyboardInterrupt
        logger.info(f"SIGTERM: ending with exit code {REQUEUE}; --resume continues from the last checkpoint")
        raise SystemExit(REQUEUE)
