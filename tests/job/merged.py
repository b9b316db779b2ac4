"""Outputs whose parts are merged, in small; and what readers find there."""

import io
import json
from typing import Any

import pyarrow.parquet as pq
from inmemory import MemoryStore

from stylebatch.job import Job
from stylebatch.job.merge_plan import MergeLimits
from stylebatch.results import read_results
from stylebatch.results.generations import Holdings, look_from_outside

LIMITS = MergeLimits(target=1, smallest=1, many_parts=2, worthwhile=0, group_rows=4, group_bytes=10**6)
"""Each row group of two units of two rows becomes a file."""
ONE_FILE = MergeLimits(many_parts=2, worthwhile=1, group_rows=4)

Rows = list[dict[str, Any]]


def plain_rows(job: Job, store: MemoryStore) -> Rows:
    """The rows that a reader of the folder finds who knows nothing of generations, in order of file."""
    prefix = f"{job.layout.results}/"
    names = [uri.removeprefix(prefix) for uri in store.objects if uri.startswith(prefix)]
    files = sorted(name for name in names if name.endswith(".parquet") and not name.startswith(("_", ".")))
    tables = (pq.read_table(io.BytesIO(store.objects[prefix + name])) for name in files)
    return comparable([row for table in tables for row in table.to_pylist()])


def own_rows(job: Job, store: MemoryStore) -> Rows:
    """The rows that this program finds."""
    return comparable(read_results(MemoryStore(store.objects), job.output).to_pylist())


def comparable(rows: Rows) -> Rows:
    """Rows in which a NaN is equal to a NaN."""
    return [
        {name: "NaN" if isinstance(value, float) and value != value else value for name, value in row.items()}
        for row in rows
    ]


def held(job: Job, store: MemoryStore) -> Holdings:
    return look_from_outside(MemoryStore(store.objects), job.layout)


def check_merged(job: Job, store: MemoryStore, expected: Rows) -> None:
    """A finished output that is merged: every row once, nothing else left, the counts right."""
    assert plain_rows(job, store) == expected
    assert own_rows(job, store) == expected
    found = held(job, store)
    assert not found.parts
    names = {file.name for file in found.files}
    left = {uri.removeprefix(f"{job.layout.results}/") for uri in store.objects if "/results/" in uri}
    assert left == {*names, "_generation.json"}
    folders = {uri.removeprefix(f"{job.output}/").partition("/")[0] for uri in store.objects}
    assert folders.isdisjoint({"records", "checkpoints", "reopened"})
    failed = sum(row["status"] == "failed" for row in expected)
    counts = {"rows": len(expected), "ok": len(expected) - failed, "failed": failed}
    assert json.loads(store.objects[job.layout.success]) == counts
