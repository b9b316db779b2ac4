"""What a worker spends: seconds by stage, and bytes read from and written to the storage."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from stylebatch.objectstore import ObjectStore, StoredObject
from stylebatch.work import Spent


class Meter:
    """Adds up what any number of threads spend.

    Args:
        clock: Seconds from some moment on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spent = Spent()
        self._lock = threading.Lock()

    def add(self, what: str, amount: float) -> None:
        """Add to a field of :class:`~stylebatch.work.Spent`, by its name."""
        with self._lock:
            self._spent = replace(self._spent, **{what: getattr(self._spent, what) + amount})

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the seconds that the block takes, however it ends."""
        started = self._clock()
        try:
            yield
        finally:
            self.add(what, self._clock() - started)

    def take(self) -> Spent:
        """All that was spent since the last call."""
        with self._lock:
            spent, self._spent = self._spent, Spent()
        return spent


class MeteredStore:
    """Another store, with its bytes counted."""

    def __init__(self, store: ObjectStore, meter: Meter) -> None:
        self._store = store
        self._meter = meter

    def get(self, uri: str) -> bytes:
        """As the store's own."""
        return self._read(self._store.get(uri))

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        """As the store's own."""
        return self._read(self._store.get_range(uri, start, length))

    def put(self, uri: str, data: bytes) -> None:
        """As the store's own."""
        self._store.put(uri, data)
        self._written(data)

    def put_file(self, uri: str, path: Path) -> None:
        """As the store's own."""
        self._store.put_file(uri, path)
        self._meter.add("bytes_written", path.stat().st_size)

    def copy(self, source: str, destination: str) -> None:
        """As the store's own; no byte passes through this process."""
        self._store.copy(source, destination)

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """As the store's own."""
        is_stored = self._store.put_if_absent(uri, data)
        self._written(data if is_stored else b"")
        return is_stored

    def put_if_version(self, uri: str, data: bytes, version: str) -> str | None:
        """As the store's own."""
        stored = self._store.put_if_version(uri, data, version)
        self._written(data if stored else b"")
        return stored

    def size(self, uri: str) -> int:
        """As the store's own."""
        return self._store.size(uri)

    def version(self, uri: str) -> str:
        """As the store's own."""
        return self._store.version(uri)

    def age(self, uri: str) -> float:
        """As the store's own."""
        return self._store.age(uri)

    def has_conditional_puts(self, folder: str) -> bool:
        """As the store's own."""
        return self._store.has_conditional_puts(folder)

    def unconditional(self) -> "MeteredStore":
        """As the store's own, with its bytes counted."""
        return MeteredStore(self._store.unconditional(), self._meter)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """As the store's own."""
        return self._store.list(prefix)

    def delete(self, uri: str) -> None:
        """As the store's own."""
        self._store.delete(uri)

    def sweep(self, folder: str, older_than: float) -> None:
        """As the store's own."""
        self._store.sweep(folder, older_than)

    def _read(self, data: bytes) -> bytes:
        self._meter.add("bytes_read", len(data))
        return data

    def _written(self, data: bytes) -> None:
        self._meter.add("bytes_written", len(data))
