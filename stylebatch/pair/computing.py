"""The one thread in which all synthesis happens."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
        """Let another thread do the work from now on; called by work, when it ran out of memory.

        oneDNN makes no new kernel in a thread in which making one has failed for want of memory.
        """
        threads = torch.get_num_threads()
        self._executor = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))

    def _in_turn(self, work: Callable[[], Result]) -> Result:
        with self._turn:
            return work()
