"""Parts that an earlier run has published: checked, counted, read back."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stylebatch.errors import JobError
from stylebatch.job.book import Tally
from stylebatch.job.identity import Job
from stylebatch.layout import FORMAT_VERSION, Layout, part_name, part_number
from stylebatch.objectstore import ObjectFile, ObjectStore, join_uri
from stylebatch.results import RESULT_SCHEMA

SMALL_BYTES = 64 << 10
"""Of a part; so much is fetched of a larger one, too, to find its footer."""
_COUNTED = ("pair_id", "status", "error_type", "error")
_LOOKED_AT = ("pair_id", "status", "attempts")
_FORMAT = b"stylebatch_format"


def part_tally(job: Job, store: ObjectStore, unit: int) -> Tally:
    """The rows of a published part, counted as ended before this run.

    Raises:
        JobError: The part is damaged or of another format.
    """
    uri = job.layout.part(unit)
    with _plain_errors(job, uri, unit):
        parquet = _open(job, store, uri, unit)
        status = parquet.read(["status"], use_threads=False).column("status")
        good = pc.sum(pc.equal(status, "ok")).as_py() or 0
        is_good = good == len(status)
        rows = [] if is_good else parquet.read(list(_COUNTED), use_threads=False).to_pylist()
    tally = Tally(ok=good, skipped=good)
    for row in rows:
        if row["status"] != "ok":
            tally.count(row, is_new=False)
    return tally


def reopened_rows(
    job: Job, store: ObjectStore, unit: int, columns: Sequence[str] = tuple(RESULT_SCHEMA.names)
) -> list[dict[str, Any]]:
    """The rows of the part that a unit had before it was opened again, as records would have them.

    Raises:
        JobError: The part is damaged or of another format.
    """
    uri = reopened_part(job.layout, unit)
    with _plain_errors(job, uri, unit):
        table = _open(job, store, uri, unit).read(list(columns), use_threads=False)
        rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def reopened_summary(job: Job, store: ObjectStore, unit: int) -> dict[str, dict[str, Any]]:
    """The status and attempts of the same rows, by pair id."""
    return {row["pair_id"]: row for row in reopened_rows(job, store, unit, _LOOKED_AT)}


def reopened_part(layout: Layout, unit: int) -> str:
    """Where the part of a unit stands while its failed rows run again."""
    return join_uri(layout.reopened, part_name(unit))


def reopened_unit(layout: Layout, uri: str) -> int | None:
    """The unit of such a part; None for anything else."""
    return part_number(uri.removeprefix(layout.reopened + "/"))


def _open(job: Job, store: ObjectStore, uri: str, unit: int) -> pq.ParquetFile:
    """A part, by its footer; of a small one all is fetched at once."""
    file = ObjectFile(store, uri)
    is_small = file.seek(0, io.SEEK_END) <= SMALL_BYTES
    file.seek(0)
    parquet = pq.ParquetFile(pa.BufferReader(file.readall()) if is_small else file, pre_buffer=True)
    _check_format(parquet, job, uri, unit)
    return parquet


def _check_format(parquet: pq.ParquetFile, job: Job, uri: str, unit: int) -> None:
    written = (parquet.metadata.metadata or {}).get(_FORMAT)
    if written is None:
        raise JobError(f"{uri} was not written by stylebatch: it names no format; {_advice(job, unit)}")
    if written != str(FORMAT_VERSION).encode():
        raise JobError(
            f"{uri} was written by format {written.decode(errors='replace')}; this program reads and writes "
            f"{FORMAT_VERSION}; use the version of stylebatch that its column stylebatch_version names, or "
            "another --output"
        )
    if parquet.metadata.num_rows != len(job.unit_rows(unit)):
        raise JobError(
            f"{uri} has {parquet.metadata.num_rows} rows; unit {unit} has {len(job.unit_rows(unit))}; "
            f"{_advice(job, unit)}"
        )


@contextmanager
def _plain_errors(job: Job, uri: str, unit: int) -> Iterator[None]:
    """Turn what the Parquet reader says into one sentence; errors of the storage pass through."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise JobError(f"{uri} is damaged ({reason}); {_advice(job, unit)}") from error


def _advice(job: Job, unit: int) -> str:
    return (
        f"put it back from a copy, or delete it and everything in {job.layout.images(unit)}, and run again: "
        "its pairs are then done anew"
    )
