"""Merging on a real folder and a real S3 server; and a process that is killed while it merges."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from merged import LIMITS, ONE_FILE, comparable
from simulated import run
from test_real_storage import FAILING, make_job, names

from stylebatch.job import Job, merge_output
from stylebatch.objectstore import ObjectStore
from stylebatch.results import read_results
from stylebatch.results.generations import look_from_outside
from stylebatch.storage import LocalStore, S3Store

SCRIPT = Path(__file__).parent / "killed_merge.py"


def rows(job: Job, store: ObjectStore) -> list[dict[str, Any]]:
    return comparable(read_results(store, job.output).to_pylist())


def live_through_merging(store: ObjectStore, folder: str) -> None:
    job = make_job(store, folder)
    run(job, store, FAILING)
    first = rows(job, store)
    assert merge_output(store, job.output, ONE_FILE).files == 1
    assert rows(job, store) == first
    results = [name for name in names(job, store) if name.startswith("results/")]
    assert results == ["results/_generation.json", "results/part-000000-000002.000001.parquet"]

    tally = run(job, store, ("p5",), limits=ONE_FILE, retry_failed=True)
    assert (tally.ok, tally.failed, tally.skipped) == (6, 1, 5)
    assert [row["attempts"] for row in rows(job, store)] == [1, 2, 1, 1, 1, 2, 1]
    results = [name for name in names(job, store) if name.startswith("results/")]
    assert results == ["results/_generation.json", "results/part-000000-000002.000003.parquet"]

    assert run(job, store, ()).skipped == 7
    run(job, store, FAILING, restart=True)
    assert [row | {"attempts": 0} for row in rows(job, store)] == [row | {"attempts": 0} for row in first]
    assert "results/_generation.json" not in names(job, store)


def test_in_a_folder(tmp_path: Path) -> None:
    live_through_merging(LocalStore(), str(tmp_path))
    assert [path.name for path in tmp_path.rglob(".*")] == []


def test_on_s3(s3_bucket: str) -> None:
    live_through_merging(S3Store(), s3_bucket)


@pytest.mark.parametrize("changes", [0, 1, 2, 4, 5, 6, 7, 9, 11, 13])
def test_a_process_that_is_killed_leaves_the_former_set_or_the_next(changes: int, tmp_path: Path) -> None:
    """Judged by Arrow, which reads the folder, and by this program."""
    store = LocalStore()
    job = make_job(store, str(tmp_path))
    run(job, store, FAILING)
    expected = rows(job, store)
    (tmp_path / "temporary").mkdir()
    killed = subprocess.run(
        [sys.executable, str(SCRIPT), job.output, str(changes)],
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    assert rows(job, store) == expected
    held = look_from_outside(store, job.layout)
    assert (len(held.parts), len(held.files)) in [(3, 0), (0, 3)]
    folder = comparable(pq.read_table(job.layout.results).to_pylist())
    assert {row["row"] for row in folder} == {*range(7)}
    if not held.files:
        assert folder == expected

    run(job, store, FAILING, limits=LIMITS)
    assert rows(job, store) == expected
    assert comparable(pq.read_table(job.layout.results).to_pylist()) == expected
    assert len([name for name in names(job, store) if name.startswith("results/")]) == 4
    assert [path.name for path in tmp_path.rglob(".*")] == []
