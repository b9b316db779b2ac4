"""How many requests are sent at once: fewer while the server throttles, more again when it answers."""

import threading
import time
from collections.abc import Callable

LOWER_INTERVAL = 1.0
"""Seconds in which the limit is lowered once at most: what was under way together is one event."""
RAISE_INTERVAL = 1.0
"""Seconds without throttling after which an answer raises the limit by one."""


class Limit:
    """How many requests may be under way: additive increase, multiplicative decrease. Keeps no clock.

    Args:
        most: Where it starts, and its upper end; the lower end is 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lowered = float("-inf")
        self._quiet_since = float("-inf")
        self.value = most

    def throttled(self, now: float, under_way: int) -> bool:
        """The server has refused a request because there are too many.

        Args:
            now: Seconds on any clock.
            under_way: The most requests that were under way since the limit was lowered; half as many are
                allowed from now on.

        Returns:
            Whether this lowered the limit.
        """
        self._quiet_since = now
        if now - self._lowered < LOWER_INTERVAL:
            return False
        self._lowered = now
        self.value = max(1, min(self.value, under_way) // 2)
        return True

    def answered(self, now: float) -> None:
        """The server has answered a request."""
        if self.value < self._most and now - self._quiet_since >= RAISE_INTERVAL:
            self.value += 1
            self._quiet_since = now


class Gate:
    """Holds threads back until the limit lets them send.

    A request is under way from :meth:`enter` until its answer has begun to arrive. While its body is read, or
    while it waits to be sent again, it is not counted.
    """

    def __init__(self, limit: Limit, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._under_way = 0
        self._peak = 0
        self._changed = threading.Condition()

    def enter(self) -> None:
        """Wait until one more request may be under way; count it."""
        with self._changed:
            self._changed.wait_for(lambda: self._under_way < self._limit.value)
            self._under_way += 1
            self._peak = max(self._peak, self._under_way)

    def leave(self) -> None:
        """One request less is under way."""
        with self._changed:
            self._under_way -= 1
            self._changed.notify()

    def throttled(self) -> None:
        """Tell the limit that the server has refused a request because there are too many."""
        with self._changed:
            if self._limit.throttled(self._clock(), self._peak):
                self._peak = self._under_way

    def answered(self) -> None:
        """Tell the limit that the server has answered a request."""
        with self._changed:
            self._limit.answered(self._clock())
            self._changed.notify()
