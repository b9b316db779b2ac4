"""Where the tests store things, and everything that can be done there."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from stylebatch.objectstore import ObjectStore

DATA = bytes(range(256)) * 8
READS: dict[str, Callable[[ObjectStore, str], object]] = {
    "get": lambda store, uri: store.get(uri),
    "get_range": lambda store, uri: store.get_range(uri, 0, 1),
    "size": lambda store, uri: store.size(uri),
    "version": lambda store, uri: store.version(uri),
    "age": lambda store, uri: store.age(uri),
}
OPERATIONS: dict[str, Callable[[ObjectStore, str], object]] = {
    **READS,
    "put": lambda store, uri: store.put(uri, b"x"),
    "put_if_absent": lambda store, uri: store.put_if_absent(uri, b"x"),
    "delete": lambda store, uri: store.delete(uri),
    "list": lambda store, uri: [*store.list(uri)],
    "sweep": lambda store, uri: store.sweep(uri, 0),
    "has_conditional_puts": lambda store, uri: store.has_conditional_puts(uri),
}
"""Everything but put_if_version, which finds nothing to replace where nothing can be."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Place:
    """A store and an empty folder in it."""

    store: ObjectStore
    folder: str

    def names(self, folder: str = "") -> list[str]:
        """What a listing finds below a folder, by its name below the place's own."""
        listed = self.store.list(f"{self.folder}/{folder}".rstrip("/"))
        return [found.uri.removeprefix(f"{self.folder}/") for found in listed]


def race(writers: int, attempt: Callable[[int], _T]) -> list[_T]:
    """What each of so many threads gets that try at the same moment."""
    start = threading.Barrier(writers)

    def run(writer: int) -> _T:
        start.wait()
        return attempt(writer)

    with ThreadPoolExecutor(writers) as threads:
        return [*threads.map(run, range(writers))]
