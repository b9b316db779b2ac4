"""What became of the pairs of an open unit in earlier runs: its images, its records, its former part."""

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from stylebatch.errors import JobError, NotFoundError, OutputConflictError
from stylebatch.job.identity import Job
from stylebatch.job.ledger import Ledger
from stylebatch.job.parallel import in_threads
from stylebatch.job.parts import reopened_summary
from stylebatch.layout import Row, decode_record, image_sha256
from stylebatch.objectstore import ObjectStore
from stylebatch.pairs import Pair
from stylebatch.recipe import FILE_SUFFIXES
from stylebatch.results import encode_part
from stylebatch.work import Task

PENDING = "pending"
"""Status of a failed row that is to run again; it never stands in a part."""
_NO_EXTRAS = pa.table({})


@dataclass(frozen=True)
class History:
    """The pairs of a unit, by pair id."""

    kept: frozenset[str] = frozenset()
    """Those that are good in the unit's former part; their rows are read only when the next part is built."""
    ended: dict[str, Row] = field(default_factory=dict)
    """The result rows of others that have ended."""
    attempts: dict[str, int] = field(default_factory=dict)
    """How often those were tried that failed and run again."""


def unit_history(
    job: Job,
    store: ObjectStore,
    ledger: Ledger,
    unit: int,
    pairs: Iterable[Pair],
    notify: Callable[[str], None],
) -> History:
    """Find out what became of a unit's pairs; a unit of which nothing is stored costs no request.

    Args:
        job: The job.
        store: Where its output is.
        ledger: What the output holds.
        unit: An open unit.
        pairs: Its pairs.
        notify: Told of every damaged record; the pair is done again.

    Raises:
        JobError: The part that the unit had is damaged.
    """
    former = reopened_summary(job, store, unit) if unit in ledger.reopened else {}
    kept = frozenset(pair_id for pair_id, row in former.items() if row["status"] == "ok")
    attempts = {pair_id: row["attempts"] or 0 for pair_id, row in former.items() if pair_id not in kept}
    if unit not in ledger.records:
        return History(kept, {}, attempts)
    look = _Look(job, store, ledger.records[unit], unit, notify)
    found = in_threads(look.last_word, (pair for pair in pairs if pair.pair_id not in kept))
    rows = [row for row in found if row is not None]
    attempts |= {row["pair_id"]: row.get("attempts") or 0 for row in rows if row["status"] == PENDING}
    return History(kept, {row["pair_id"]: row for row in rows if row["status"] != PENDING}, attempts)


class _Look:
    """One look at an open unit that has records. Threads share it."""

    def __init__(
        self, job: Job, store: ObjectStore, records: Set[str], unit: int, notify: Callable[[str], None]
    ) -> None:
        self._layout = job.layout
        self._store = store
        self._records = records
        self._unit = unit
        self._notify = notify
        self._images = {stored.uri for stored in store.list(job.layout.images(unit))}

    def last_word(self, pair: Pair) -> dict[str, Any] | None:
        """The row that counts for a pair, if there is one.

        An image commits its pair: the record that carries its hash counts. Where there is none, a failed
        record does.
        """
        return self._committed(pair) or self._failed(pair)

    def _committed(self, pair: Pair) -> dict[str, Any] | None:
        image = self._layout.image(self._unit, pair.pair_id, FILE_SUFFIXES[pair.recipe.format])
        if image not in self._images:
            return None
        try:
            sha256 = image_sha256(self._store.get(image))
        except NotFoundError:  # removed since it was listed
            return None
        return self._record(self._layout.record(self._unit, pair.pair_id, sha256), pair, ("ok",), sha256)

    def _failed(self, pair: Pair) -> dict[str, Any] | None:
        uri = self._layout.failed_record(self._unit, pair.pair_id)
        return self._record(uri, pair, ("failed", PENDING))

    def _record(
        self, uri: str, pair: Pair, statuses: tuple[str, ...], sha256: str | None = None
    ) -> dict[str, Any] | None:
        """The row of a record, if it is there and sound."""
        if uri not in self._records:
            return None
        try:
            return read_record(self._store, uri, pair, statuses, sha256)
        except NotFoundError:
            return None
        except JobError as error:
            self._notify(f"{error}; it is ignored and its pair is done again")
            return None


def read_record(
    store: ObjectStore, uri: str, pair: Pair, statuses: tuple[str, ...], sha256: str | None = None
) -> dict[str, Any]:
    """The row of a pair's record.

    Args:
        store: Where it is.
        uri: The record.
        pair: Whose record it must be.
        statuses: Those that it may have.
        sha256: Of the image that it must be about; None is any.

    Raises:
        NotFoundError: There is none.
        JobError: It is damaged.
    """
    row = decode_record(store.get(uri), uri)
    if (row["pair_id"], row.get("row")) != (pair.pair_id, pair.row):
        raise JobError(f"{uri} is of pair {row['pair_id']!r} in row {row.get('row')}, not of its name's")
    if row.get("status") not in statuses or (sha256 and row.get("image_sha256") != sha256):
        raise JobError(f"{uri} does not say what its name says")
    if not _fits_a_part(row):
        raise JobError(f"{uri} is damaged: it holds what no result column can")
    return row


def _fits_a_part(row: Row) -> bool:
    try:
        encode_part([row], _NO_EXTRAS)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def committed_row(job: Job, store: ObjectStore, task: Task) -> Row:
    """The row of a pair that another attempt has committed.

    Raises:
        OutputConflictError: The file where the picture belongs was made by no attempt that is known.
    """
    pair_id, suffix = task.pair.pair_id, FILE_SUFFIXES[task.pair.recipe.format]
    image = job.layout.image(task.unit, pair_id, suffix)
    try:
        sha256 = image_sha256(store.get(image))
    except NotFoundError as error:
        raise OutputConflictError(
            f"{image} was there when this pair's picture was to be stored and is gone now; "
            "run with --retry-failed"
        ) from error
    try:
        return read_record(store, job.layout.record(task.unit, pair_id, sha256), task.pair, ("ok",), sha256)
    except (NotFoundError, JobError) as error:
        raise OutputConflictError(
            f"{image} is there, but no record has its hash: it was changed, or put there by something else. "
            "Delete it and run with --retry-failed"
        ) from error
