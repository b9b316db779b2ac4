"""Running failed rows again, and only those: units are opened again, their good rows kept.

The part of such a unit moves to ``reopened/``: copied first, deleted second, so that an interruption leaves
either the part, which then counts, or the copy, whose failed rows are still to be done. The failed records of
units that were open anyway are marked: they keep count of the attempts.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from stylebatch.errors import JobError
from stylebatch.job.book import Tally
from stylebatch.job.history import PENDING
from stylebatch.job.identity import Job
from stylebatch.job.ledger import Ledger
from stylebatch.job.parallel import for_each
from stylebatch.job.parts import reopened_part
from stylebatch.layout import decode_record, encode_record
from stylebatch.objectstore import ObjectStore


def reopen_failed(
    job: Job, store: ObjectStore, ledger: Ledger, tallies: Mapping[int, Tally], check: Callable[[], None]
) -> Ledger:
    """Let every failed row run again; without any, nothing is touched.

    Args:
        job: The job.
        store: Where its output is.
        ledger: What the output holds.
        tallies: What each finished unit comes to.
        check: Called before every change; raises if this driver must make none.

    Returns:
        What the output holds now.
    """
    units = frozenset(unit for unit, tally in tallies.items() if tally.failed)
    failures = [uri for uris in ledger.records.values() for uri in uris if uri.endswith(".failed.json")]
    if units or failures:
        check()
        store.delete(job.layout.success)
    for_each(lambda uri: _mark(store, uri, check), failures)
    for_each(lambda unit: _reopen(job, store, unit, check), sorted(units))
    return replace(ledger, finished=ledger.finished - units, reopened=ledger.reopened | units)


def _mark(store: ObjectStore, uri: str, check: Callable[[], None]) -> None:
    """Turn a failed record into one that is to be done again."""
    try:
        row = decode_record(store.get(uri), uri)
    except JobError:  # damaged: its pair is done again anyway
        return
    check()
    store.put(uri, encode_record({**row, "status": PENDING}))


def _reopen(job: Job, store: ObjectStore, unit: int, check: Callable[[], None]) -> None:
    part = job.layout.part(unit)
    data = store.get(part)
    check()
    store.put(reopened_part(job.layout, unit), data)
    check()
    store.delete(part)
