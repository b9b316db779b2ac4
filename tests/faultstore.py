"""A store that misbehaves in worker processes: it ends the process, stalls, or raises, at objects it is told.

A driver gives it to its workers like any other store; in the process that made it, it behaves.
"""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import stylebatch.cluster  # noqa: F401 - before Ray: lets its clients show the token that clusters ask for
from stylebatch.objectstore import ObjectStore, StoredObject
from stylebatch.storage import UriStore

EXIT_CODE = 13
STALL_SECONDS = 3600.0


class Misbehaviour(StrEnum):
    """What happens when the object is read."""

    EXIT = "the process ends at once"
    STALL = "the read takes an hour"
    MEMORY = "MemoryError"
    ERROR = "RuntimeError"


@dataclass(frozen=True)
class Trap:
    """Which reads misbehave, and how."""

    text: str
    """A part of the URI."""
    misbehaviour: Misbehaviour
    """What happens."""
    tries_file: str
    """A line for each try, with the process that made it; see :func:`tries`."""
    times: int | None = None
    """So many tries misbehave, later ones do not; None is all."""


def tries(trap: Trap) -> list[int]:
    """The process ids that have tried to read what misbehaves, one for each try, in order."""
    path = Path(trap.tries_file)
    return [int(line) for line in path.read_text().split()] if path.exists() else []


class FaultStore:
    """Another store, with traps for workers.

    Args:
        trap: What misbehaves.
        store: Where the objects are; None is a :class:`UriStore`.
    """

    def __init__(self, trap: Trap, store: ObjectStore | None = None) -> None:
        self.trap = trap
        self._store = store or UriStore()
        self._home = os.getpid()
        _send_by_value()

    def get(self, uri: str) -> bytes:
        self._read(uri)
        return self._store.get(uri)

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        self._read(uri)
        return self._store.get_range(uri, start, length)

    def size(self, uri: str) -> int:
        return self._store.size(uri)

    def version(self, uri: str) -> str:
        return self._store.version(uri)

    def age(self, uri: str) -> float:
        return self._store.age(uri)

    def put(self, uri: str, data: bytes) -> None:
        self._store.put(uri, data)

    def put_file(self, uri: str, path: Path) -> None:
        self._store.put_file(uri, path)

    def copy(self, source: str, destination: str) -> None:
        self._store.copy(source, destination)

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        return self._store.put_if_absent(uri, data)

    def put_if_version(self, uri: str, data: bytes, version: str) -> str | None:
        return self._store.put_if_version(uri, data, version)

    def has_conditional_puts(self, folder: str) -> bool:
        return self._store.has_conditional_puts(folder)

    def unconditional(self) -> ObjectStore:
        return FaultStore(self.trap, self._store.unconditional())

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return self._store.list(prefix)

    def delete(self, uri: str) -> None:
        self._store.delete(uri)

    def sweep(self, folder: str, older_than: float) -> None:
        self._store.sweep(folder, older_than)

    def _read(self, uri: str) -> None:
        """Note and misbehave, if this is a worker and the trap is set for the object."""
        if os.getpid() == self._home or self.trap.text not in uri:
            return
        with Path(self.trap.tries_file).open("a") as file:
            file.write(f"{os.getpid()}\n")
        if self.trap.times is None or len(tries(self.trap)) <= self.trap.times:
            _misbehave(self.trap.misbehaviour, uri)


def _send_by_value() -> None:
    """Let Ray send this module along with what is in it: workers cannot import the tests."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


def _misbehave(misbehaviour: Misbehaviour, uri: str) -> None:
    if misbehaviour == Misbehaviour.EXIT:
        os._exit(EXIT_CODE)
    if misbehaviour == Misbehaviour.STALL:
        time.sleep(STALL_SECONDS)
    elif misbehaviour == Misbehaviour.MEMORY:
        raise MemoryError
    else:
        raise RuntimeError(f"a fault while {uri} was read")
