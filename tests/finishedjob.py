"""Whole outputs without Ray: pairs run as a worker runs them, published as the driver publishes them."""

import io
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.job import Job, Tally, publish_part, publish_success
from stylebatch.job.identity import claim_output
from stylebatch.layout import Layout
from stylebatch.manifest import open_manifest, write_manifest
from stylebatch.objectstore import ObjectStore
from stylebatch.output import unit_rows
from stylebatch.pair.batch import BatchRunner
from stylebatch.recipe import Recipe
from stylebatch.results import RESULT_SCHEMA, encode_part, open_results
from stylebatch.synthesis.families import BUNDLED_SHA256
from stylebatch.work import Task

Rows = list[dict[str, Any]]


def finish_job(
    store: ObjectStore,
    manifest: str,
    output: str,
    columns: Mapping[str, Any],
    recipe: Recipe,
    unit_size: int = 3,
    batch: int = 1,
) -> Job:
    """Run a manifest of these columns to its end, so many pairs at a time."""
    write_manifest(store, manifest, pa.table(columns))
    job = Job(open_manifest(store, manifest), recipe, output, BUNDLED_SHA256, unit_size)
    claim_output(job, store)
    tasks = [Task(pair, unit=pair.row // unit_size) for pair in job.manifest.pairs(recipe)]
    with ThreadPoolExecutor(1) as compute:
        runner = BatchRunner(store, job.layout, "cpu", compute, checkpoint_seconds=None)
        outcomes = [
            outcome
            for first in range(0, len(tasks), batch)
            for outcome in runner.run(tasks[first : first + batch])
        ]
    tally = Tally()
    for unit in job.units:
        rows = [outcome.row for outcome in outcomes if outcome.row and outcome.task.unit == unit]
        for row in rows:
            tally.count(row, is_new=True)
        publish_part(job, store, unit, sorted(rows, key=lambda row: row["row"]))
    publish_success(job, store, tally)
    return job


def edit_part(store: ObjectStore, output: str, unit: int, change: Callable[[Rows], object]) -> None:
    """Write a part again after its rows were changed in place; own columns stay with their rows."""
    uri = Layout(output).part(unit)
    rows = unit_rows(open_results(store, output), unit)
    table = pq.read_table(io.BytesIO(store.get(uri)))
    extras = table.select([name for name in table.column_names if name not in RESULT_SCHEMA.names])
    places = {id(row): place for place, row in enumerate(rows)}
    before = [*rows]
    change(rows)
    kept = [places.get(id(row), place) for place, row in enumerate(rows)]
    assert len(before) == len(places)  # they are kept alive: no new row has the identity of an old one
    store.put(uri, encode_part(rows, extras.take(pa.array(kept, pa.int64()))))
