"""Many small requests at once, so that a unit of hundreds of objects does not wait for each in turn."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

THREADS = 16
"""Requests at once."""
MOST_WAITING = 1024
"""Items that are taken from their source before they are needed."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(action: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map`` in a few threads: results in order; what an action raises is raised here, and ends it all."""
    source = iter(items)
    if not (chunk := list(itertools.islice(source, MOST_WAITING))):
        return
    with ThreadPoolExecutor(min(THREADS, len(chunk)), thread_name_prefix="requests") as threads:
        while chunk:
            yield from threads.map(action, chunk)
            chunk = list(itertools.islice(source, MOST_WAITING))


def for_each(action: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Do something with every item, in a few threads."""
    for _ in in_threads(action, items):
        pass
