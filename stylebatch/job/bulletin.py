"""What a driver tells of a run in ``progress.json``: small, however many pairs, workers and failures."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import stylebatch
from stylebatch.job.book import Tally

BULLETIN_FORMAT = 1
"""Of ``progress.json`` alone."""
MOST_BYTES = 1 << 18
"""A larger ``progress.json`` is nobody's; the largest that is written has about a tenth of it."""
MOST_KINDS = 20
"""Kinds of failures that are listed; the others are counted."""
MOST_WORKERS = 20
"""Workers that are listed; the others are counted."""
MOST_PAIRS = 3
"""Pairs of a worker that are named."""
MOST_NOTICES = 5
"""The last ones."""
MOST_TEXT = 200
"""Characters of a message."""


class Telling(StrEnum):
    """What a driver says of itself."""

    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"


@dataclass(frozen=True)
class FailureKind:
    """The failed pairs of one error type."""

    error_type: str
    """Its name."""
    count: int
    """Pairs."""
    examples: tuple[str, ...] = ()
    """A few of them, as ``pair_id: message``."""


@dataclass(frozen=True)
class WorkerNote:
    """What one worker does."""

    host: str
    """Host name; empty while it starts."""
    process: int
    """Process id; 0 while it starts."""
    device: str
    """``cpu`` or ``cuda``; empty while it starts."""
    stage: str
    """As in :class:`stylebatch.work.Activity`."""
    pairs: int = 0
    """Of the batch that it is synthesizing."""
    pair_ids: tuple[str, ...] = ()
    """The first of them."""
    evaluations: int = 0
    """Done for them."""
    iterations: int = 0
    """The most there will be."""


@dataclass(frozen=True)
class Bulletin:
    """The state of a run at one moment."""

    holder: str
    """Of the lease under which it was written: :class:`stylebatch.job.lease.Holder`."""
    host: str
    """Where the driver runs."""
    process: int
    """Its process id."""
    since: str
    """When it began, by its machine's clock, as ISO 8601 in UTC."""
    written: str
    """When this was written, likewise."""
    telling: Telling
    """Whether it goes on."""
    reason: str
    """Why it stopped; else empty."""
    rows: int
    """Of the manifest."""
    ok: int
    """Pairs with a picture, from this run or an earlier one."""
    failed: int
    """Pairs without."""
    new: int
    """Pictures of this run."""
    pairs_per_hour: float | None
    """The rate of this run; None before the first evaluation."""
    seconds_left: float | None
    """At this rate."""
    failures: tuple[FailureKind, ...] = ()
    """By kind, the most frequent first, at most :data:`MOST_KINDS`."""
    workers: int = 0
    """All of them."""
    stages: Mapping[str, int] = field(default_factory=dict)
    """How many workers are in which stage."""
    listed: tuple[WorkerNote, ...] = ()
    """At most :data:`MOST_WORKERS` of them."""
    notices: tuple[str, ...] = ()
    """The last :data:`MOST_NOTICES` of this run."""
    stylebatch_version: str = stylebatch.__version__
    """That wrote it."""

    def encode(self) -> bytes:
        """The bytes of ``progress.json``."""
        facts = {"format_version": BULLETIN_FORMAT, **asdict(self)}
        return json.dumps(facts, indent=1).encode()


def failure_kinds(tally: Tally) -> tuple[FailureKind, ...]:
    """The failures of a tally, the most frequent first, bounded in number and length."""
    return tuple(
        FailureKind(short(kind), number, tuple(short(one) for one in tally.error_examples[kind]))
        for kind, number in tally.error_counts.most_common(MOST_KINDS)
    )


def stages_of(workers: Iterable[str]) -> dict[str, int]:
    """How many workers are in which stage, the most frequent first."""
    return dict(Counter(workers).most_common())


def short(text: str) -> str:
    """A text on one line, printable, of at most :data:`MOST_TEXT` characters."""
    line = " ".join(text[: 10 * MOST_TEXT].split())
    printable = "".join(letter if letter.isprintable() else "?" for letter in line)
    return printable if len(printable) <= MOST_TEXT else f"{printable[: MOST_TEXT - 3]}..."


@dataclass(frozen=True)
class Foreign:
    """What is there instead of a bulletin that can be read."""

    version: int | None
    """The format of a bulletin of another version; None: it is no bulletin at all."""


def decode_bulletin(data: bytes) -> Bulletin | Foreign:
    """What ``progress.json`` says, its texts made printable. Fields that are not known are left out."""
    try:
        found = json.loads(data)
        version = found["format_version"]
        if not isinstance(version, int) or "holder" not in found:
            return Foreign(None)
        return _bulletin(found) if version == BULLETIN_FORMAT else Foreign(version)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return Foreign(None)


def _bulletin(found: Mapping[str, Any]) -> Bulletin:
    return Bulletin(
        **_texts(found, "holder", "host", "since", "written", "reason", "stylebatch_version"),
        **_numbers(found, "process", "rows", "ok", "failed", "new", "workers"),
        telling=Telling(found["telling"]),
        pairs_per_hour=_as_measure(found["pairs_per_hour"]),
        seconds_left=_as_measure(found["seconds_left"]),
        failures=_many(found["failures"], _failure_kind),
        stages={short(name): _as(int, number) for name, number in found["stages"].items()},
        listed=_many(found["listed"], _worker_note),
        notices=_many(found["notices"], _short_text),
    )


def _failure_kind(found: Mapping[str, Any]) -> FailureKind:
    kind, number = _short_text(found["error_type"]), _as(int, found["count"])
    return FailureKind(kind, number, _many(found["examples"], _short_text))


def _worker_note(found: Mapping[str, Any]) -> WorkerNote:
    return WorkerNote(
        **_texts(found, "host", "device", "stage"),
        **_numbers(found, "process", "pairs", "evaluations", "iterations"),
        pair_ids=_many(found["pair_ids"], _short_text),
    )


def _texts(found: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: _short_text(found[name]) for name in names}


def _numbers(found: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: _as(int, found[name]) for name in names}


def _many(found: Any, read: Callable[[Any], Any]) -> tuple[Any, ...]:
    return tuple(read(one) for one in _as(list, found))


def _short_text(value: Any) -> str:
    return short(_as(str, value))


def _as_measure(value: Any) -> float | None:
    if value is None:
        return None
    measure = float(_as((int, float), value))
    if not math.isfinite(measure):
        raise ValueError(f"{value!r} is not finite")
    return measure


def _as(kind: Any, value: Any) -> Any:
    """The value, which must be of this kind.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind}")
    return value
