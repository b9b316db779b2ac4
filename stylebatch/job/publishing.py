"""What a run adds to its output: failed records, parts, and the last word."""

import json
from collections.abc import Sequence

from stylebatch.errors import JobError
from stylebatch.job.book import Tally
from stylebatch.job.identity import Job
from stylebatch.job.ledger import CHECKPOINT_SUFFIXES, RECORD_SUFFIXES, read_ledger, tidy
from stylebatch.job.parallel import for_each
from stylebatch.job.parts import reopened_part, reopened_rows
from stylebatch.layout import Row, encode_record
from stylebatch.objectstore import ObjectStore, parent_uri
from stylebatch.results import encode_part

MOST_NAMED = 10
"""Missing parts that are named in a message."""


def store_failure(job: Job, store: ObjectStore, unit: int, row: Row) -> None:
    """Write the record of a pair that failed for good."""
    store.put(job.layout.failed_record(unit, str(row["pair_id"])), encode_record(row))


def publish_part(job: Job, store: ObjectStore, unit: int, rows: Sequence[Row]) -> None:
    """Write the part of a unit, then delete what it has taken over: records, checkpoints, a former part.

    The caller holds the output's lease and has checked it.

    Args:
        job: The job.
        store: Where its output is.
        unit: A unit whose rows have all ended.
        rows: Its rows, without those that are kept from its former part.
    """
    layout, span = job.layout, job.unit_rows(unit)
    whole = _with_kept_rows(job, store, unit, rows)
    store.put(layout.part(unit), encode_part(whole, job.manifest.extras(span.start, len(span))))
    folders = (
        (layout.records(unit), RECORD_SUFFIXES),
        (parent_uri(layout.checkpoint(unit, "any")), CHECKPOINT_SUFFIXES),
    )
    for folder, suffixes in folders:
        uris = (stored.uri for stored in store.list(folder))
        for_each(store.delete, (uri for uri in uris if uri.endswith(suffixes)))
    store.delete(reopened_part(layout, unit))


def _with_kept_rows(job: Job, store: ObjectStore, unit: int, rows: Sequence[Row]) -> list[Row]:
    """All rows of a unit, in order."""
    known = {int(row["row"]): row for row in rows}
    if len(known) < len(job.unit_rows(unit)):
        known = {row["row"]: row for row in reopened_rows(job, store, unit)} | known
    return [known[number] for number in job.unit_rows(unit)]


def publish_success(job: Job, store: ObjectStore, tally: Tally) -> None:
    """Write ``_SUCCESS``: every part is there and every row has ended.

    Records and checkpoints that came too late, from workers of an earlier driver, are deleted before. The
    caller holds the output's lease and has checked it.

    Raises:
        JobError: They have not; the message lists the parts that are missing.
    """
    ledger = read_ledger(job, store)
    missing = [job.layout.part(unit) for unit in job.units if unit not in ledger.finished]
    if missing:
        more = f"\n  and {len(missing) - MOST_NAMED} more" * (len(missing) > MOST_NAMED)
        raise JobError(
            f"{job.output} is not complete: {len(missing)} of {len(job.units)} parts are missing; run again:"
            + "".join(f"\n  {part}" for part in missing[:MOST_NAMED])
            + more
        )
    if tally.ended != job.manifest.num_rows:
        raise JobError(
            f"{job.output} is not complete: {tally.ended} of {job.manifest.num_rows} rows have ended; "
            "run again"
        )
    tidy(job, store, ledger, check=lambda: None)
    store.put(job.layout.success, encode_counts(tally))


def encode_counts(tally: Tally) -> bytes:
    """The bytes of ``_SUCCESS``."""
    return json.dumps({"rows": tally.ended, "ok": tally.ok, "failed": tally.failed}, sort_keys=True).encode()
