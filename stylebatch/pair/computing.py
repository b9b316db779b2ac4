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
        self._threads: int = executor.submit(torch.get_num_threads).result()

    def run(self, work: Callable[[], Result]) -> Result:
        """What the work returns or raises, once it had its turn."""
        return self._executor.submit(self._in_turn, work).result()

    def renew(self) -> None:
        """Let another thread do the work from now on, if one can be had; called by work, in its turn."""
        executor = ThreadPoolExecutor(1)
        with suppress(RuntimeError):  # no memory for its stack
            executor.submit(torch.get_num_threads)
            self._executor = executor

    def _in_turn(self, work: Callable[[], Result]) -> Result:
        with self._turn:
            if torch.get_num_threads() != self._threads:  # a new thread has what any thread was given last
                torch.set_num_threads(self._threads)
            return work()


def transfer_threads(count: int) -> ThreadPoolExecutor:
    """Threads for fetching, decoding and publishing, in which torch works without helpers.

    A thread that calls torch gets a team of its own. With one team more than there are processor cores for,
    OpenMP lets no thread wait busily, in the compute thread's team neither, and every operation starts late.
    """
    return ThreadPoolExecutor(
        count, thread_name_prefix="transfer", initializer=torch.set_num_threads, initargs=(1,)
    )
