"""The ledger: what the output says has ended, and what this run adds to it."""

import json
from collections.abc import Iterator, Sequence

from stylebatch.errors import JobError
from stylebatch.job.book import Tally, UnitBook
from stylebatch.job.identity import Job
from stylebatch.objectstore import ObjectStore
from stylebatch.recipe import FILE_SUFFIXES
from stylebatch.results import Row, decode_record, encode_part, encode_record, image_sha256, read_part
from stylebatch.work import Task


def finished_units(job: Job, store: ObjectStore) -> set[int]:
    """The units whose part is published."""
    layout = job.layout
    found = (layout.part_unit(stored.uri) for stored in store.list(layout.results))
    return {unit for unit in found if unit is not None}


def ended_rows(job: Job, store: ObjectStore, unit: int) -> dict[str, Row]:
    """The result rows of an open unit's pairs that have ended, by pair id.

    An image commits its pair: the record that carries the image's hash is the pair's row. A failed record
    counts where there is no image.
    """
    layout = job.layout
    records = _list_records(store, layout.records(unit))
    images = {_stem(stored.uri): stored.uri for stored in store.list(layout.images(unit))}
    rows: dict[str, Row] = {}
    for pair_id, uris in records.items():
        if pair_id in images:
            rows[pair_id] = _matching_row(store, images[pair_id], uris)
        elif failed := [uri for uri in uris if uri.endswith(".failed.json")]:
            rows[pair_id] = decode_record(store.get(failed[0]), failed[0])
    return rows


def _list_records(store: ObjectStore, folder: str) -> dict[str, list[str]]:
    """The record URIs of each pair id: ``<pair_id>.<16 digits or failed>.json``."""
    records: dict[str, list[str]] = {}
    for stored in store.list(folder):
        pair_id = stored.uri.rpartition("/")[2].removesuffix(".json").rpartition(".")[0]
        records.setdefault(pair_id, []).append(stored.uri)
    return records


def _stem(uri: str) -> str:
    name = uri.rpartition("/")[2]
    return next((name.removesuffix(end) for end in FILE_SUFFIXES.values() if name.endswith(end)), name)


def _matching_row(store: ObjectStore, image: str, records: Sequence[str]) -> Row:
    """The record that was made with the image that is there."""
    digest = image_sha256(store.get(image))
    wanted = [uri for uri in records if uri.endswith(f".{digest[:16]}.json")]
    if not wanted:
        raise JobError(
            f"{image} has no record with its hash beside it; it was changed or put there by something else. "
            "Delete it and run again"
        )
    return decode_record(store.get(wanted[0]), wanted[0])


def committed_row(job: Job, store: ObjectStore, task: Task) -> Row:
    """The row of a pair that another attempt has committed."""
    suffix = FILE_SUFFIXES[task.pair.recipe.format]
    image = job.layout.image(task.unit, task.pair.pair_id, suffix)
    records = _list_records(store, job.layout.records(task.unit)).get(task.pair.pair_id, [])
    return _matching_row(store, image, records)


def pending_tasks(
    job: Job, store: ObjectStore, finished: set[int], is_new: bool, book: UnitBook
) -> Iterator[Task]:
    """Stream the pairs that have not ended, opening their units in the book.

    Pairs of open units that have ended before are added to the book instead. Finished units are skipped
    without reading their rows.
    """
    for run in _runs([unit for unit in job.units if unit not in finished]):
        pairs = job.manifest.pairs(job.recipe, run.start * job.unit_size)
        for unit in run:
            ended = {} if is_new else ended_rows(job, store, unit)
            book.open(unit)
            for _, pair in zip(job.unit_rows(unit), pairs, strict=False):
                if pair.pair_id in ended:
                    book.add(unit, ended[pair.pair_id], is_new=False)
                else:
                    yield Task(pair, unit)


def _runs(units: Sequence[int]) -> Iterator[range]:
    """Maximal ranges of consecutive numbers."""
    start = 0
    for i in range(1, len(units) + 1):
        if i == len(units) or units[i] != units[i - 1] + 1:
            yield range(units[start], units[i - 1] + 1)
            start = i


def publish_part(job: Job, store: ObjectStore, unit: int, rows: Sequence[Row]) -> None:
    """Write the part of a unit, then delete its records, which it has taken over."""
    span = job.unit_rows(unit)
    store.put(job.layout.part(unit), encode_part(rows, job.manifest.extras(span.start, len(span))))
    for stored in list(store.list(job.layout.records(unit))):
        store.delete(stored.uri)


def store_failure(job: Job, store: ObjectStore, unit: int, row: Row) -> None:
    """Write the record of a pair that failed for good."""
    store.put(job.layout.failed_record(unit, str(row["pair_id"])), encode_record(row))


def publish_success(job: Job, store: ObjectStore, tally: Tally) -> None:
    """Write ``_SUCCESS``: every row has ended and every part is there."""
    counts = {"rows": job.manifest.num_rows, "ok": tally.ok, "failed": tally.failed}
    store.put(job.layout.success, json.dumps(counts, sort_keys=True).encode())


def tally_finished(job: Job, store: ObjectStore, units: set[int], tally: Tally) -> None:
    """Count the rows of parts that an earlier run has published."""
    columns = ["pair_id", "status", "error_type", "error"]
    for unit in sorted(units):
        for row in read_part(store, job.layout.part(unit), columns).to_pylist():
            tally.count(row, is_new=False)
