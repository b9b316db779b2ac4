"""One output belongs to one job."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from inmemory import MemoryStore

from stylebatch.errors import JobError
from stylebatch.job import Job
from stylebatch.job.identity import claim_output
from stylebatch.recipe import Recipe

JobMaker = Callable[..., Job]


def refusal(job: Job, store: MemoryStore) -> list[str]:
    with pytest.raises(JobError) as raised:
        claim_output(job, store)
    heading, *lines = str(raised.value).splitlines()
    assert heading.startswith("s3://bucket/out is another job's output; give another --output, or")
    return [line.strip() for line in lines]


def test_the_first_claim_is_a_new_job_and_the_second_goes_on(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    assert claim_output(job, store) is True
    written = store.objects[job.layout.job]
    assert claim_output(job, store) is False
    assert store.objects[job.layout.job] == written


def test_job_json_says_what_the_job_is(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job(rows=5, unit_size=2)
    claim_output(job, store)
    found = json.loads(store.objects["s3://bucket/out/job.json"])
    assert found == {
        "format_version": 2,
        "manifest": "s3://bucket/study/pairs.parquet",
        "manifest_sha256": job.manifest.fingerprint(),
        "rows": 5,
        "recipe": Recipe(size=48, iterations=3).to_dict(),
        "weights_sha256": "a" * 64,
        "unit_size": 2,
    }


def test_a_moved_manifest_is_the_same_job(make_job: JobMaker, store: MemoryStore) -> None:
    claim_output(make_job(), store)
    moved = make_job(uri="s3://bucket/moved/here.parquet")
    assert claim_output(moved, store) is False


def test_every_difference_is_listed(make_job: JobMaker, store: MemoryStore) -> None:
    claim_output(make_job(), store)
    recipe = Recipe(size=48, iterations=4, style_layers=("conv1_1",), start="content")
    lines = refusal(make_job(rows=6, unit_size=3, recipe=recipe, weights_sha256="b" * 64), store)
    joined = "\n".join(lines)
    assert len(lines) == 7
    for line in (
        "rows is 5 there and 6 here",
        "recipe: iterations is 3 there and 4 here",
        "recipe: start is 'noise' there and 'content' here",
        f"weights_sha256 is '{'a' * 64}' there and '{'b' * 64}' here",
        "unit_size is 2 there and 3 here",
    ):
        assert line in lines
    assert "manifest_sha256 is '" in joined
    assert "recipe: style_layers is ['conv1_1', 'conv2_1'" in joined


def test_a_change_inside_the_manifest_is_a_difference(make_job: JobMaker, store: MemoryStore) -> None:
    claim_output(make_job(), store)
    (line,) = refusal(make_job(columns={"style": ["other.png"] * 5}), store)
    assert line.startswith("manifest_sha256 is '")


def test_a_refusal_changes_nothing(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    claim_output(job, store)
    before = dict(store.objects)
    refusal(replace(job, unit_size=100), store)
    assert store.objects == before


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"recipe": None},
        {"rows": 7, "unit_size": 9},
        {"restarting": True},
        {"manifest_sha256": None, "rows": None, "recipe": None, "engine": "another"},
    ],
)
@pytest.mark.parametrize("version", [0, 1, 17, "2", None])
def test_another_format_is_refused_by_name_before_all_else(
    make_job: JobMaker, store: MemoryStore, changes: dict[str, object], version: object
) -> None:
    job = make_job()
    theirs = job.identity() | changes | {"format_version": version}
    theirs = {name: value for name, value in theirs.items() if value is not None or name == "format_version"}
    store.put(job.layout.job, json.dumps(theirs).encode())
    with pytest.raises(JobError) as raised:
        claim_output(job, store)
    assert str(raised.value) == (
        f"s3://bucket/out was written by format {version}; this program reads and writes 2; use the version "
        "of stylebatch in its results (column stylebatch_version) or another --output"
    )


def test_settings_of_an_older_or_newer_program_are_said(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    theirs = job.identity()
    del theirs["weights_sha256"], theirs["recipe"]["bounds"]
    theirs["engine"] = "fast"
    theirs["recipe"]["sparkle"] = 3
    store.put(job.layout.job, json.dumps(theirs).encode())
    assert sorted(refusal(job, store)) == [
        "engine is 'fast' there and not known here: a newer stylebatch wrote it",
        f"recipe: bounds is {job.recipe.bounds!r} here and not known there: an older stylebatch wrote it",
        "recipe: sparkle is 3 there and not known here: a newer stylebatch wrote it",
        f"weights_sha256 is '{'a' * 64}' here and not known there: an older stylebatch wrote it",
    ]


def test_an_interrupted_restart_is_said(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    store.put(job.layout.job, b'{"format_version": 2, "restarting": true}')
    before = dict(store.objects)
    with pytest.raises(
        JobError, match=r"a restart of s3://bucket/out was interrupted; run again with --rest"
    ):
        claim_output(job, store)
    assert store.objects == before


@pytest.mark.parametrize(
    "name", ["results/part-000000.parquet", "records/000000/p0.failed.json", "reopened/part-000001.parquet"]
)
def test_results_of_nobody_knows_which_job_are_not_taken_for_our_own(
    make_job: JobMaker, store: MemoryStore, name: str
) -> None:
    store.put(f"s3://bucket/out/{name}", b"from before")
    with pytest.raises(JobError, match=rf"/out holds s3://bucket/out/{name} but no job\.json.*put its job"):
        claim_output(make_job(), store)
    assert "s3://bucket/out/job.json" not in store.objects


def test_a_folder_with_pictures_may_be_an_output(make_job: JobMaker, store: MemoryStore) -> None:
    store.put("s3://bucket/out/images/holiday.png", b"somebody's")
    assert claim_output(make_job(), store) is True


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_job_json_is_said(make_job: JobMaker, store: MemoryStore, data: bytes) -> None:
    store.put("s3://bucket/out/job.json", data)
    with pytest.raises(JobError, match=r"job\.json is damaged: it is not JSON; give another --output"):
        claim_output(make_job(), store)


@pytest.mark.parametrize("data", [b"[]", b"{}", b"null", b'{"recipe": 3}', b'{"name": "something else"}'])
def test_the_job_json_of_another_program_is_said(make_job: JobMaker, store: MemoryStore, data: bytes) -> None:
    store.put("s3://bucket/out/job.json", data)
    with pytest.raises(JobError, match=r"job\.json is not a stylebatch job; give another --output"):
        claim_output(make_job(), store)


def test_units_cover_every_row_once(make_job: JobMaker) -> None:
    job = make_job(rows=5, unit_size=2)
    assert [list(job.unit_rows(unit)) for unit in job.units] == [[0, 1], [2, 3], [4]]
    assert len(make_job(rows=4, unit_size=2).units) == 2
    assert len(make_job(rows=1, unit_size=256).units) == 1
