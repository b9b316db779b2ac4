"""A cache that is bounded in bytes and forgets what was used longest ago."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ByteCache(Generic[Value]):
    """Values by key. Threads may share it; :class:`Turns` keeps two from making the same value at once.

    Args:
        capacity: Bytes that the values may take together.
        size_of: A value's bytes. A value larger than the capacity is not kept.
    """

    def __init__(self, capacity: int, size_of: Callable[[Value], int]) -> None:
        self._capacity = capacity
        self._size_of = size_of
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """The value, now the most recently used; None if it is not there."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: Hashable, value: Value) -> None:
        """Keep a value, and forget old ones until all fit."""
        with self._lock:
            if key in self._values:
                self._bytes -= self._size_of(self._values.pop(key))
            if self._size_of(value) > self._capacity:
                return
            self._values[key] = value
            self._bytes += self._size_of(value)
            while self._bytes > self._capacity:
                _, oldest = self._values.popitem(last=False)
                self._bytes -= self._size_of(oldest)


class Turns:
    """One thread at a time for each key; the others wait for theirs."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, threading.Lock] = {}
        self._threads: Counter[Hashable] = Counter()
        self._bookkeeping = threading.Lock()

    @contextmanager
    def turn(self, key: Hashable) -> Iterator[None]:
        """This thread's turn at a key, until the block ends."""
        with self._bookkeeping:
            lock = self._locks.setdefault(key, threading.Lock())
            self._threads[key] += 1
        try:
            with lock:
                yield
        finally:
            with self._bookkeeping:
                self._threads[key] -= 1
                if not self._threads[key]:
                    del self._threads[key], self._locks[key]
