"""Preemption: on SIGTERM write a checkpoint, and exit with a code that asks for a requeue."""

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


class Preemption:
    """Listens for SIGTERM within a `with` block.

    During a step the signal waits for the step's end, where all processes agree on it; a process whose peers
    have died would wait forever, hence PATIENCE. Within at_once() it ends the process there and then.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._asked = self._at_once = False
        self._watchdog = threading.Timer(PATIENCE, os._exit, [REQUEUE])
        self._watchdog.daemon = True

    def __enter__(self) -> "Preemption":
        # Only the main thread may listen; a run in another one is not preempted.
        self._listens = threading.current_thread() is threading.main_thread()
        if self._listens:
            self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        if self._listens:
            signal.signal(signal.SIGTERM, self._before)

    def _hear(self, _: int, __: FrameType | None) -> None:
        if self._at_once:
            self.leave()
        if not self._asked:
            self._asked = True
            if comm.get_world_size() > 1:
                self._watchdog.start()

    def agreed(self) -> bool:
        """Return whether any process was asked to end. All processes call it together."""
        agreed = any_process(self._asked, self._device)
        if agreed:
            self._watchdog.cancel()
        return agreed

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let SIGTERM end the process within the block, as everything before it is saved."""
        if self._asked:
            self.leave()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    @staticmethod
    def leave() -> None:
        """End the process.

        Raises:
            SystemExit: with REQUEUE.
        """
        logger.info(f"SIGTERM: ending with exit code {REQUEUE}; --resume continues from the last checkpoint")
        raise SystemExit(REQUEUE)
