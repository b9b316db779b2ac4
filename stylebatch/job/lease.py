"""The lease on an output: at most one driver works on it.

``lease.json`` names its holder, who renews it four times before it expires. Whether it has expired is judged
by the storage's own clock, so it does not matter how the clocks of machines are set; every change is a put on
condition that nothing has changed, so of any number of drivers one gets it. On storage without conditional
puts the lease still keeps a later driver away, but of two that start in the same instant both may go on.
"""

import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Protocol, Self

from stylebatch.errors import LeaseError, NotFoundError, StorageError
from stylebatch.job.processes import has_died, process_mark
from stylebatch.objectstore import ObjectStore, parent_uri

LEASE_SECONDS = 60.0
"""A lease that has not been renewed for so long is free."""
BEAT_SECONDS = LEASE_SECONDS / 4
"""Between two renewals."""
MARGIN_SECONDS = 10.0
"""The holder stops so long before another may take over: for requests under way, and ages by the second."""
MOST_TRIES = 5
"""Times that a lease may change hands while it is being asked for."""
SECONDS_TO_STOP = 5.0
"""For a renewal that is under way when the lease is released."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as ``lease.json`` has it."""

    holder: str
    """Random, so that no two are taken for each other."""
    host: str
    """Name of the machine."""
    process: int
    """Process id on it."""
    since: str
    """When the lease was taken, by the machine's clock, as ISO 8601 in UTC."""
    process_mark: str
    """:func:`stylebatch.job.processes.process_mark`."""
    renewals: int = 0
    """How often it has been renewed; it also makes every version of the object another one."""

    @property
    def description(self) -> str:
        """For people."""
        return f"process {self.process} on {self.host}, since {self.since}"

    def encode(self) -> bytes:
        """The bytes of ``lease.json``."""
        return json.dumps(asdict(self), indent=2, sort_keys=True).encode()


def decode_holder(data: bytes) -> Holder | None:
    """Who holds a lease; None if its bytes do not say."""
    try:
        found = json.loads(data)
        values = {field.name: found[field.name] for field in fields(Holder)}
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    kinds = {field.name: field.type for field in fields(Holder)}
    return Holder(**values) if all(type(value) is kinds[name] for name, value in values.items()) else None


def boot_clock() -> float:
    """Seconds that no change of the date moves, and that pass while the machine sleeps, where it can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True)
class Machine:
    """What a lease has to know of the machine and process that it is taken from."""

    host: str
    """Name of the machine."""
    process_mark: str
    """This process, or ''."""
    clock: Callable[[], float] = boot_clock
    """Seconds since some moment."""
    has_died: Callable[[str], bool] = has_died
    """Whether the process with a mark is known to have ended."""
    beat_seconds: float | None = BEAT_SECONDS
    """Between two renewals; None: only :meth:`Lease.renew` renews."""

    @classmethod
    def here(cls) -> Self:
        """This machine and process."""
        return cls(socket.gethostname(), process_mark())

    def new_holder(self) -> Holder:
        """A holder that nobody has seen."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Holder(uuid.uuid4().hex, self.host, os.getpid(), now, self.process_mark)


@dataclass(frozen=True)
class FoundLease:
    """A lease as it stands in the storage."""

    version: str
    """Read first: if anything changes after it, a put on its condition fails."""
    holder: Holder | None
    """None: not known."""
    age: float
    """Seconds since it was last renewed, by the storage's clock."""

    def is_of(self, holder: Holder) -> bool:
        """Whether it is this very holder's, renewed or not."""
        return self.holder is not None and self.holder.holder == holder.holder

    def is_free(self, machine: Machine) -> bool:
        """Whether another driver may take it."""
        is_abandoned = self.holder is not None and machine.has_died(self.holder.process_mark)
        return is_abandoned or self.age >= LEASE_SECONDS


def look_at_lease(store: ObjectStore, uri: str) -> FoundLease | None:
    """The lease that is there; None if there is none, or no longer."""
    with suppress(NotFoundError):
        return FoundLease(store.version(uri), decode_holder(store.get(uri)), store.age(uri))
    return None


class Leased(Protocol):
    """The places of an output that one driver at a time works on."""

    @property
    def lease(self) -> str:
        """Where it says who does."""
        ...


class Lease:
    """The right to work on an output, kept by a thread that renews it. Made by :meth:`take`."""

    def __init__(
        self, store: ObjectStore, uri: str, holder: Holder, version: str, since: float, machine: Machine
    ) -> None:
        self.holder = holder
        self._store = store
        self._uri = uri
        self._version = version
        self._machine = machine
        self._renewed = since
        self._loss = ""
        self._renewing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def take(cls, store: ObjectStore, places: Leased, machine: Machine | None = None) -> "Lease":
        """Take the lease on an output and keep it until :meth:`release`.

        Args:
            store: Where the output is.
            places: The output's.
            machine: Who takes it; None is this process.

        Raises:
            LeaseError: Another driver holds it; the message says who, since when, and what to do.
        """
        machine = machine or Machine.here()
        holder, started = machine.new_holder(), machine.clock()
        try:
            version = _take(store, places.lease, holder, machine)
        except StorageError:
            _forget(store, places.lease, holder)
            raise
        lease = cls(store, places.lease, holder, version, started, machine)
        lease._start()
        return lease

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have the lease yet."""
        return not self._loss and not self._is_doubtful

    @property
    def _is_doubtful(self) -> bool:
        return self._seconds_silent > LEASE_SECONDS - MARGIN_SECONDS

    @property
    def _seconds_silent(self) -> float:
        """Since the start of the last renewal that succeeded."""
        return self._machine.clock() - self._renewed

    def check(self) -> None:
        """Make sure that the lease is held before something is done that only its holder may do.

        This costs no request, unless the lease has not been renewed in time, because the process was paused
        or the storage did not answer. Then it is renewed here and now: if that succeeds, nobody has had it
        meanwhile.

        Raises:
            LeaseError: Another driver has taken over, or may have.
        """
        while self._is_doubtful and not self._loss:
            self._prove()
        if self._loss:
            raise LeaseError(self._loss)

    def _prove(self) -> None:
        """Renew a lease that may have expired, unless that has just been done."""
        with self._renewing:
            if not self._is_doubtful or self._loss:
                return
            try:
                self._renew()
            except StorageError as error:
                raise LeaseError(
                    f"the lease {self._uri} has not been renewed for {self._seconds_silent:.0f} s and cannot "
                    f"be renewed now, so another driver may have taken over; this one stops: {error}"
                ) from error

    def renew(self) -> None:
        """Renew the lease now, or note that it is lost.

        Raises:
            StorageError: The storage did not do it; the lease is held until it expires.
        """
        with self._renewing:
            self._renew()

    def _renew(self) -> None:
        started = self._machine.clock()
        self.holder = replace(self.holder, renewals=self.holder.renewals + 1)
        for _ in range(2):
            version = self._store.put_if_version(self._uri, self.holder.encode(), self._version)
            if version is None:  # another holder, or a put of this one whose answer was lost
                found = look_at_lease(self._store, self._uri)
                if found is None or not found.is_of(self.holder):
                    self._note_loss(found)
                    return
                self._version = found.version
                if found.holder != self.holder:  # an earlier put; this one is still to be done
                    continue
            self._version, self._renewed = version or self._version, started
            return

    def _note_loss(self, found: FoundLease | None) -> None:
        output = parent_uri(self._uri)
        if found is None:
            self._loss = f"{self._uri} was removed, so this driver no longer holds {output} and stops"
            return
        who = found.holder.description if found.holder else "another driver"
        self._loss = f"{output} was taken over by {who}; this driver stops, and what it has committed stays"

    def release(self) -> None:
        """Give the lease up; its object goes, unless another driver has it or the storage does not answer."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(SECONDS_TO_STOP)
            if self._thread.is_alive():
                return  # a renewal hangs; the lease expires by itself
        with suppress(StorageError):
            if not self._loss:
                self.renew()  # only who could renew it is still alone with it
            if not self._loss:
                self._store.delete(self._uri)
        self._loss = self._loss or f"the lease on {parent_uri(self._uri)} has been given up"

    def _start(self) -> None:
        if self._machine.beat_seconds is not None:
            self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
            self._thread.start()

    def _beat(self) -> None:
        while not self._loss and not self._stop.wait(self._machine.beat_seconds):
            with suppress(StorageError):
                self.renew()


def _take(store: ObjectStore, uri: str, holder: Holder, machine: Machine) -> str:
    """Put the holder into the lease; its version then.

    Raises:
        LeaseError: It is another driver's.
    """
    for _ in range(MOST_TRIES):
        store.put_if_absent(uri, holder.encode())
        found = look_at_lease(store, uri)
        if found is None:  # given up since
            continue
        if found.is_of(holder):
            return found.version  # which was read before the holder, after the put: it is of nobody else's
        if not found.is_free(machine):
            if _is_still(store, uri, found):
                raise LeaseError(_refusal(uri, found))
            continue
        if version := store.put_if_version(uri, holder.encode(), found.version):
            return version
    raise LeaseError(f"{uri} changes hands all the time; see who else works on {parent_uri(uri)}")


def _is_still(store: ObjectStore, uri: str, found: FoundLease) -> bool:
    """Whether nothing has changed since the lease was looked at, so that its holder and age go together."""
    with suppress(NotFoundError):
        return store.version(uri) == found.version
    return False


def _forget(store: ObjectStore, uri: str, holder: Holder) -> None:
    """Remove what may have arrived of a holder that could not take the lease."""
    with suppress(StorageError):
        found = look_at_lease(store, uri)
        if found is not None and found.is_of(holder):
            store.delete(uri)


def _refusal(uri: str, found: FoundLease) -> str:
    output, left = parent_uri(uri), math.ceil(LEASE_SECONDS - found.age)
    if found.holder is None:
        return (
            f"{output} may be in use: {uri} is damaged and does not say by whom. "
            f"Run again in {left} s; if nobody has renewed it by then, this driver takes it over"
        )
    return (
        f"{output} is in use by another driver: {found.holder.description} (seen {found.age:.0f} s ago). "
        "Two drivers cannot work on one output: wait until that one has ended, stop it, or give another "
        f"--output. If it is dead, run again in {left} s, when its lease has expired"
    )
