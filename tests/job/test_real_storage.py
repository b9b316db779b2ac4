"""Whole runs on a real folder and a real S3 server: begun, resumed, retried, restarted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from simulated import Killed, pairs, run

from stylebatch.errors import LeaseError
from stylebatch.job import Job, open_output
from stylebatch.layout import image_sha256
from stylebatch.manifest import open_manifest
from stylebatch.objectstore import ObjectStore, join_uri
from stylebatch.recipe import Recipe
from stylebatch.results import read_results
from stylebatch.storage import LocalStore, S3Store
from stylebatch.work import Task

FAILING = ("p1", "p5")


def make_job(store: ObjectStore, folder: str) -> Job:
    names = [f"p{i}" for i in range(7)]
    sink = pa.BufferOutputStream()
    columns = {"pair_id": names, "content": names, "style": ["s"] * 7, "level": [1.5, None, 3, 4, 5, 6, 7]}
    pq.write_table(pa.table(columns), sink)
    uri = join_uri(folder, "pairs.parquet")
    store.put(uri, sink.getvalue().to_pybytes())
    recipe = Recipe(size=48, iterations=3)
    return Job(open_manifest(store, uri), recipe, join_uri(folder, "out"), "a" * 64, unit_size=3)


def names(job: Job, store: ObjectStore) -> list[str]:
    return [stored.uri.removeprefix(job.output + "/") for stored in store.list(job.output)]


def stop_before(pair_id: str) -> Callable[[Task], None]:
    def on_task(task: Task) -> None:
        if task.pair.pair_id == pair_id:
            raise Killed

    return on_task


def live_through_everything(store: ObjectStore, folder: str) -> None:
    job = make_job(store, folder)
    with pytest.raises(Killed):
        run(job, store, FAILING, on_task=stop_before("p4"))
    assert "results/part-000000.parquet" in names(job, store)
    assert any(name.startswith("records/000001/p3.") for name in names(job, store))
    tally = run(job, store, FAILING)
    assert (tally.ok, tally.failed, tally.skipped) == (5, 2, 4)
    finished = names(job, store)
    first = rows(job, store)
    assert [row["status"] for row in first] == ["ok", "failed", "ok", "ok", "ok", "failed", "ok"]

    tally = run(job, store, ("p5",), retry_failed=True)
    assert (tally.ok, tally.failed, tally.skipped) == (6, 1, 5)
    again = rows(job, store)
    assert [row["attempts"] for row in again] == [1, 2, 1, 1, 1, 2, 1]
    assert [row for row in again if row["attempts"] == 1] == [row for row in first if row["status"] == "ok"]
    assert set(names(job, store)) == {*finished, "images/000000/p1.png"}

    store.put(join_uri(job.output, "notes.txt"), b"mine")
    output = open_output(job, store, restart=True)
    with pytest.raises(LeaseError):
        open_output(job, store)
    assert names(job, store) == ["job.json", "lease.json", "notes.txt"]
    output.lease.release()
    run(job, store, FAILING)
    assert [row | {"attempts": 0} for row in rows(job, store)] == [row | {"attempts": 0} for row in first]
    assert names(job, store) == sorted([*finished, "notes.txt"])


def rows(job: Job, store: ObjectStore) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_results(store, job.output).to_pylist()
    for row, pair in zip(found, pairs(job), strict=True):
        if row["status"] == "ok":
            image = store.get(job.layout.image(row["row"] // 3, pair.pair_id, ".png"))
            assert image_sha256(image) == row["image_sha256"]
    return found


def test_in_a_folder(tmp_path: Path) -> None:
    live_through_everything(LocalStore(), str(tmp_path))
    assert [path.name for path in tmp_path.rglob(".*")] == []


def test_on_s3(s3_bucket: str) -> None:
    live_through_everything(S3Store(), s3_bucket)


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_without_conditional_puts(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """As well as it can be done: nothing is lost as long as only one driver is at work."""
    if where == "folder":
        live_through_everything(LocalStore().unconditional(), str(tmp_path))
    else:
        live_through_everything(S3Store().unconditional(), request.getfixturevalue("s3_bucket"))
