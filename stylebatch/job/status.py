"""How a run stands, told by its output alone: whether a driver works on it, how far it is, what failed.

Three objects say it: ``_SUCCESS``, that the job is finished; ``lease.json``, who works on it and when it was
last heard of, by the storage's clock; ``progress.json``, what it told last.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from stylebatch.errors import JobError, NotFoundError
from stylebatch.job.bulletin import (
    BULLETIN_FORMAT,
    MOST_BYTES,
    Bulletin,
    FailureKind,
    Foreign,
    Telling,
    WorkerNote,
    decode_bulletin,
    short,
)
from stylebatch.job.identity import read_identity
from stylebatch.job.lease import LEASE_SECONDS, FoundLease, Holder, Leased, Machine, look_at_lease
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectStore

LATE_SECONDS = 60.0
"""A driver that is alive and has not told anything for so long has trouble."""


class State(StrEnum):
    """How a job stands."""

    FINISHED = "finished"
    """Every row has ended and every part is published."""
    RUNNING = "running"
    """A driver works on it."""
    STOPPED = "stopped"
    """Its driver has ended part-way and given the lease up."""
    DEAD = "dead"
    """Its driver has ended without giving the lease up, or cannot reach the storage."""


@dataclass(frozen=True)
class Driver:
    """Who works on an output, or did last."""

    host: str
    """Name of its machine."""
    process: int
    """Its process id there."""
    since: str
    """When it began, by its machine's clock, as ISO 8601 in UTC."""


@dataclass(frozen=True)
class Status:
    """How a job stands, for people and programs."""

    output: str
    """Canonical folder URI."""
    state: State
    """Whether anybody works on it."""
    reason: str
    """Why it is stopped or taken for dead, as far as it is known; else empty."""
    rows: int | None
    """Of the manifest; None while a job is being set up."""
    ended: int
    """Rows that are known to have ended."""
    ok: int | None
    """Of these, pairs with a picture; None where nobody has told."""
    failed: int | None
    """Pairs without; likewise."""
    pairs_per_hour: float | None = None
    """The rate of a run that goes on; None if it has not told one."""
    seconds_left: float | None = None
    """At this rate, from now on; likewise."""
    heartbeat_seconds: float | None = None
    """Since the driver was last heard of, by the storage's clock; None: never."""
    told_seconds: float | None = None
    """Since ``progress.json`` was written, likewise."""
    driver: Driver | None = None
    """Who works on it, or did last; None where nobody has told."""
    failures: tuple[FailureKind, ...] = ()
    """By kind, the most frequent first."""
    workers: int = 0
    """Of a run that goes on."""
    stages: Mapping[str, int] = field(default_factory=dict)
    """How many of them are in which stage."""
    listed: tuple[WorkerNote, ...] = ()
    """Some of them."""
    notices: tuple[str, ...] = ()
    """What the driver last told its user."""
    remarks: tuple[str, ...] = ()
    """What to know about these facts themselves."""
    counted: str = "pair"
    """What is counted: ``pair``, or ``image`` where features are measured."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Found:
    """What an output says of its job."""

    output: str
    """Canonical folder URI."""
    identity: Mapping[str, Any] | None
    """``job.json``; None if there is none."""
    lease: FoundLease | None
    """``lease.json``."""
    bulletin: Bulletin | Foreign | None
    """``progress.json``."""
    told_seconds: float | None
    """Its age, by the storage's clock."""
    published: int
    """Rows of published units; counted where nothing else tells."""
    success: Mapping[str, Any] | None
    """``_SUCCESS``; empty if it cannot be read."""
    counted: str = "pair"
    """What a row is."""


class Places(Leased, Protocol):
    """Where an output says how its run stands."""

    @property
    def output(self) -> str:
        """Canonical URI."""
        ...

    @property
    def progress(self) -> str:
        """What its driver told last."""
        ...

    @property
    def success(self) -> str:
        """That it is finished, with counts."""
        ...

    @property
    def results(self) -> str:
        """The folder of its parts."""
        ...

    def part_unit(self, uri: str) -> int | None:
        """The unit of a part's URI; None for anything else."""
        ...


Find = Callable[[ObjectStore, str], Found | None]
"""What the output at a canonical URI says of its run; None: it is no output of this kind."""


def read_status(
    store: ObjectStore, output: str, machine: Machine | None = None, finders: Sequence[Find] | None = None
) -> Status:
    """How the run of an output stands.

    Args:
        store: Where the output is; nothing is changed there.
        output: Canonical URI.
        machine: Who asks; it knows which processes of its own have died. None is this one.
        finders: Of what kinds the output may be; None: a job's.

    Raises:
        JobError: There is no run, or it is of another format.
        StorageError: The storage cannot be read.
    """
    looks = (find(store, output) for find in finders or (find_job,))
    found = next((found for found in looks if found is not None), None)
    if found is None:
        raise JobError(
            f"{output} is not the output of a run: it holds no job.json, and no features; check the location"
        )
    return judge(found, machine or Machine.here())


def find_job(store: ObjectStore, output: str) -> Found | None:
    """What the output of a job says of its run; None if there is no job.

    Raises:
        JobError: It is of another format.
        StorageError: The storage cannot be read.
    """
    layout = Layout(output)
    return look(store, layout, read_identity(store, layout))


def look(
    store: ObjectStore, places: Places, identity: Mapping[str, Any] | None, counted: str = "pair"
) -> Found | None:
    """What an output says of its run; None if nobody has begun one.

    Args:
        store: Where the output is.
        places: Where it says that.
        identity: Has its ``rows`` and ``unit_size``; None if nothing says what it is.
        counted: What a row is.
    """
    lease = look_at_lease(store, places.lease)
    if identity is None and lease is None:
        return None
    bulletin, told_seconds = _read_bulletin(store, places)
    success = _read_success(store, places)  # after the others, as it is written last
    if lease is None and success is None:
        lease = look_at_lease(store, places.lease)  # of a driver that has begun meanwhile
    is_told = success is not None or isinstance(bulletin, Bulletin)
    published = 0 if is_told or identity is None else _published_rows(store, places, identity)
    return Found(places.output, identity, lease, bulletin, told_seconds, published, success, counted)


def _read_bulletin(store: ObjectStore, places: Places) -> tuple[Bulletin | Foreign | None, float | None]:
    try:
        age = store.age(places.progress)
        return decode_bulletin(store.get_range(places.progress, 0, MOST_BYTES)), age
    except NotFoundError:
        return None, None


def _read_success(store: ObjectStore, places: Places) -> dict[str, Any] | None:
    try:
        told = json.loads(store.get_range(places.success, 0, MOST_BYTES))
    except NotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _published_rows(store: ObjectStore, places: Places, identity: Mapping[str, Any]) -> int:
    """Rows of the units that have a part."""
    rows, size = identity.get("rows"), identity.get("unit_size")
    if not isinstance(rows, int) or not isinstance(size, int):
        return 0  # of an output that is being emptied
    units = (places.part_unit(stored.uri) for stored in store.list(places.results))
    return sum(max(0, min(size, rows - unit * size)) for unit in units if unit is not None)


def judge(found: Found, machine: Machine) -> Status:
    """What follows from what an output holds.

    Args:
        found: What it holds.
        machine: Who asks.
    """
    bulletin = found.bulletin if isinstance(found.bulletin, Bulletin) else None
    state, reason = _state(found, bulletin, machine)
    is_current = bulletin is not None and _is_by_holder(bulletin, found.lease)
    rows, ended, ok, failed = _counts(found, bulletin)
    status = Status(
        output=found.output,
        state=state,
        reason=reason,
        rows=rows,
        ended=ended,
        ok=ok,
        failed=failed,
        heartbeat_seconds=found.lease.age if found.lease else found.told_seconds,
        told_seconds=found.told_seconds if bulletin else None,
        driver=_driver(found.lease, bulletin),
        failures=bulletin.failures if bulletin else (),
        notices=bulletin.notices if bulletin else (),
        remarks=tuple(_remarks(found, state, is_current)),
        counted=found.counted,
    )
    return _with_pace(status, bulletin) if bulletin and is_current else status


def _is_by_holder(bulletin: Bulletin, lease: FoundLease | None) -> bool:
    """Whether it was written by the driver that holds the lease."""
    return lease is not None and lease.holder is not None and lease.holder.holder == bulletin.holder


def _state(found: Found, bulletin: Bulletin | None, machine: Machine) -> tuple[State, str]:
    """How the job stands, and why."""
    lease = found.lease
    if lease is None and (found.identity or {}).get("restarting"):
        return State.STOPPED, "a restart of it was interrupted; run again with --restart"
    if found.success is not None:
        return State.FINISHED, ""
    if bulletin and bulletin.telling == Telling.STOPPED and (not lease or _is_by_holder(bulletin, lease)):
        return State.STOPPED, bulletin.reason
    if lease is None:
        return State.STOPPED, _unknown_reason(bulletin)
    if lease.holder and machine.has_died(lease.holder.process_mark):
        return State.DEAD, "its driver, a process of this machine, has ended without a word"
    if lease.age >= LEASE_SECONDS:
        return State.DEAD, (
            f"its driver has not renewed its lease for {lease.age:.0f} s: it has died, or cannot reach the "
            "storage"
        )
    return State.RUNNING, ""


def _unknown_reason(bulletin: Bulletin | None) -> str:
    if bulletin and bulletin.telling == Telling.FINISHED:
        return "it had finished, but _SUCCESS is not there any more"
    return "no driver works on it, and the last one has not told why it ended"


def _counts(found: Found, bulletin: Bulletin | None) -> tuple[int | None, int, int | None, int | None]:
    """Rows of the manifest, rows that have ended, ok and failed."""
    success = found.success or {}
    told = [success.get(name) for name in ("rows", "ok", "failed")]
    if all(isinstance(number, int) for number in told):
        rows, ok, failed = (int(number) for number in told if number is not None)
        return rows, ok + failed, ok, failed
    if bulletin:
        return bulletin.rows, bulletin.ok + bulletin.failed, bulletin.ok, bulletin.failed
    rows_known = (found.identity or {}).get("rows")
    return rows_known if isinstance(rows_known, int) else None, found.published, None, None


def _driver(lease: FoundLease | None, bulletin: Bulletin | None) -> Driver | None:
    known: Holder | Bulletin | None = lease.holder if lease else bulletin
    return Driver(short(known.host), known.process, short(known.since)) if known else None


def _with_pace(status: Status, bulletin: Bulletin) -> Status:
    """With what is true only while the driver that told it works."""
    if status.state != State.RUNNING:
        return status
    left = bulletin.seconds_left
    return replace(
        status,
        pairs_per_hour=bulletin.pairs_per_hour,
        seconds_left=None if left is None else max(0.0, left - (status.told_seconds or 0.0)),
        workers=bulletin.workers,
        stages=bulletin.stages,
        listed=bulletin.listed,
    )


def _remarks(found: Found, state: State, is_current: bool) -> Iterator[str]:
    by_parts = "" if state == State.FINISHED else "; only published units are counted"
    match found.bulletin:
        case None if state != State.FINISHED:
            yield f"there is no progress.json: the driver has only just begun, or is older{by_parts}"
        case Foreign(None):
            yield f"progress.json is damaged, or somebody else's{by_parts}"
        case Foreign(version):
            yield (
                f"progress.json is of format {version}, and this program reads {BULLETIN_FORMAT}{by_parts}; "
                "use the version of stylebatch that runs the job"
            )
        case Bulletin() if state == State.RUNNING and not is_current:
            yield "the driver that works now has told nothing yet; the one before it told the counts"
        case Bulletin() if state == State.RUNNING and (found.told_seconds or 0) > LATE_SECONDS:
            yield (
                f"the driver is alive, but progress.json is {found.told_seconds:.0f} s old: the storage is "
                "slow, or the driver is busy"
            )
