"""Ending a run from outside: SIGTERM or Ctrl-C, once for a graceful end, twice for an immediate one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNAL_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Ending:
    """Whether a run has been asked to end, and by what."""

    def __init__(self) -> None:
        self.reason = ""

    def request(self, reason: str) -> None:
        """Ask for a graceful end.

        Raises:
            KeyboardInterrupt: It had been asked for before: end now.
        """
        if self.reason:
            raise KeyboardInterrupt
        self.reason = reason


@contextmanager
def noting_signals(ending: Ending) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C ask for an end until the block is left; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        ending.request(SIGNAL_NAMES[signal.Signals(number)])

    before = {number: signal.signal(number, note) for number in SIGNAL_NAMES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
