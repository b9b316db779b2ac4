"""What a job costs in S3 requests, counted before the server; docs/operating.md states these numbers."""

from collections import Counter

import pyarrow as pa
import pytest
from faultproxy import running_proxy
from inmemory import picture_bytes
from s3server import S3Server

from stylebatch.cluster.driver import run_job
from stylebatch.cluster.jobs import make_job
from stylebatch.cluster.options import RunOptions
from stylebatch.job.status import read_status
from stylebatch.manifest import write_manifest
from stylebatch.recipe import Recipe
from stylebatch.storage import UriStore

PAIRS, UNIT = 12, 4
UNITS = PAIRS // UNIT

A_PAIR = Counter(
    {
        ("GET", "other"): 1,  # the content image
        ("PUT", "records"): 1,
        ("PUT", "images"): 1,
        ("DELETE", "records"): 1,
    }
)
A_UNIT = Counter(
    {
        ("PUT", "parts"): 1,
        ("GET", "list"): 4,  # records and checkpoints; a listing is two requests, one for the very name
        ("DELETE", "other"): 1,  # the former part that there may be
    }
)
FIXED = Counter(
    {
        ("PUT", "job.json"): 1,
        ("GET", "other"): 4,
        ("GET", "list"): 16,
        ("HEAD", "other"): 2,
        ("PUT", "other"): 5,  # finding out whether conditional puts work; _SUCCESS
        ("DELETE", "other"): 1,
        ("GET", "job.json"): 1,
    }
)
"""Of a new job; among them the style image, which one worker reads once."""


def test_requests_of_a_job(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = UriStore()
    for number in range(PAIRS):
        store.put(f"{s3_bucket}/in/c{number:02}.png", picture_bytes(40, 30, number))
    store.put(f"{s3_bucket}/in/s.png", picture_bytes(32, 32, 99))
    contents = [f"c{number:02}.png" for number in range(PAIRS)]
    table = pa.table({"content": contents, "style": ["s.png"] * PAIRS})
    write_manifest(store, f"{s3_bucket}/in/pairs.parquet", table)
    with running_proxy(s3_server.endpoint, share=0, seed=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store, recipe = UriStore(), Recipe(size=32, iterations=1)
        job = make_job(store, f"{s3_bucket}/in/pairs.parquet", f"{s3_bucket}/out", recipe, UNIT)
        job.manifest.fingerprint()
        before = proxy.traffic.requests

        tally = run_job(job, store, RunOptions(workers=1, largest_batch=1))

        requests = proxy.traffic.requests - before
        read_status(store, job.output)
        looks = proxy.traffic.requests - before - requests
    assert tally.ok == PAIRS
    by_the_clock = ("lease", "progress")
    assert {one: number for one, number in requests.items() if one[1] not in by_the_clock} == FIXED + times(
        UNITS, A_UNIT
    ) + times(PAIRS, A_PAIR)
    assert requests["PUT", "lease"] >= 2  # one more for every 15 s
    assert requests["HEAD", "progress"] == 1
    assert requests["PUT", "progress"] >= 2  # one more for every 10 s
    assert Counter(method for method, _ in looks.elements()) == {"GET": 4, "HEAD": 2}


def times(number: int, requests: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    return Counter({one: number * each for one, each in requests.items()})
