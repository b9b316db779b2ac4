"""The one thread in which all synthesis happens."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import torch

Result = TypeVar("Result")


class ComputeThread:
    """Runs one piece of work after the other, whatever threads ask for it.

    Args:
        executor: With one thread, which has torch's settings.
    """

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._turn = threading.Lock()

    def run(self, work: Callable[[], Result]) -> Result:
        """What the work returns or raises, once it had its turn."""
        return self._executor.submit(self._in_turn, work).result()

    def renew(self) -> None:
        """Let another thread do the work from now on, if one can be had; called by work, in its turn."""
        threads = torch.get_num_threads()
        executor = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))
        with suppress(RuntimeError):  # no memory for its stack
            executor.submit(torch.get_num_threads)
            self._executor = executor

    def _in_turn(self, work: Callable[[], Result]) -> Result:
        with self._turn:
            return work()
