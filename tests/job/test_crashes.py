"""A run is hit at every single call to the storage, in every way; going on makes it whole."""

from collections import Counter
from collections.abc import Callable

import pytest
from inmemory import MemoryStore
from simulated import (
    JobMaker,
    Killed,
    check_success,
    check_unfinished,
    check_whole,
    cuts,
    later,
    output_objects,
    run,
    table,
)

from stylebatch.errors import JobError
from stylebatch.job import Job
from stylebatch.recipe import Recipe
from stylebatch.work import Task

COLUMNS = {"condition": [f"condition {i}" for i in range(5)]}
STRANGERS = (
    "notes.txt",
    "images/holiday.png",
    "images/000000/readme.txt",
    "images/0/x.png",
    "images/000000/album/x.png",
    "results/part-000000.parquet.old",
    "records/list.json",
    "checkpoints/000000/x.txt",
    "reopened/mine.parquet",
)
"""Somebody's own files beside a job's."""


@pytest.fixture
def job(make_job: JobMaker) -> Job:
    """Two units of three and two rows."""
    return make_job(rows=5, unit_size=3, columns=COLUMNS)


def whole_after(job: Job, start: MemoryStore, **options: bool) -> MemoryStore:
    store = later(start)
    run(job, store, **options)
    check_whole(job, store)
    return store


def dies_before(pair_id: str) -> Callable[[Task], None]:
    def on_task(task: Task) -> None:
        if task.pair.pair_id == pair_id:
            raise Killed

    return on_task


def half_done(job: Job, start: MemoryStore, failing: tuple[str, ...], before: str = "p4") -> MemoryStore:
    """The output of a run that died before a pair."""
    store = later(start)
    with pytest.raises(Killed):
        run(job, store, failing, on_task=dies_before(before))
    return later(store)


def test_a_run_goes_on_after_any_interruption(job: Job, store: MemoryStore) -> None:
    whole = output_objects(job, whole_after(job, store))
    points: Counter[str] = Counter()
    for where, left in cuts(store, lambda faulty: run(job, faulty)):
        check_unfinished(job, left)
        run(job, left)
        check_whole(job, left)
        assert output_objects(job, left) == whole, where
        points[where.partition(" at ")[0]] += 1
    assert points["dies"] == points["fails"] > 45
    assert points["loses the answer"] > 20


def test_resuming_goes_on_after_any_interruption(job: Job, store: MemoryStore) -> None:
    whole = output_objects(job, whole_after(job, store))
    for where, left in cuts(half_done(job, store, ("p1",)), lambda faulty: run(job, faulty)):
        check_unfinished(job, left)
        run(job, left)
        assert output_objects(job, left) == whole, where


def without_attempts(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows whose failures do not tell how often they were tried: each further --retry-failed tries again."""
    return [row | ({"attempts": 0} if row["status"] == "failed" else {}) for row in rows]


@pytest.mark.parametrize("is_finished", [True, False])
def test_retrying_goes_on_after_any_interruption(job: Job, store: MemoryStore, is_finished: bool) -> None:
    """Two rows had failed, one is good now. Both parts are there, or one unit has a failed record."""
    start = later(store)
    if is_finished:
        run(job, start, failing=("p1", "p3"))
    else:
        start = half_done(job, store, ("p1", "p3"))
    undisturbed = later(start)
    run(job, undisturbed, failing=("p3",), retry_failed=True)
    check_whole(job, undisturbed)
    expected = table(job, undisturbed)
    assert [(row["status"], row["attempts"]) for row in expected] == [
        ("ok", 1),
        ("ok", 2),
        ("ok", 1),
        ("failed", 2),
        ("ok", 1),
    ]
    before = later(start)
    run(job, before, failing=("p1", "p3"))
    for where, left in cuts(start, lambda faulty: run(job, faulty, ("p3",), retry_failed=True)):
        check_unfinished(job, left)
        plain, again = later(left), later(left)
        run(job, again, failing=("p3",), retry_failed=True)
        check_whole(job, again)
        assert without_attempts(table(job, again)) == without_attempts(expected), where
        assert table(job, again)[3]["attempts"] >= 2
        run(job, plain, failing=("p3",))
        check_whole(job, plain)
        for row, old, new in zip(table(job, plain), table(job, before), expected, strict=True):
            assert row in (old, new), where


def other_job(make_job: JobMaker) -> Job:
    return make_job(rows=5, unit_size=3, columns=COLUMNS, recipe=Recipe(size=48, iterations=4))


@pytest.mark.parametrize("is_finished", [True, False])
def test_starting_over_goes_on_after_any_interruption(
    job: Job, make_job: JobMaker, store: MemoryStore, is_finished: bool
) -> None:
    start = whole_after(job, store) if is_finished else half_done(job, store, ("p1", "p3"))
    if not is_finished:
        start = retry_that_died(job, start)
    new_job = other_job(make_job)
    own = output_objects(new_job, whole_after(new_job, later(store)))
    strangers = {f"{job.output}/{name}": b"somebody's" for name in STRANGERS}
    start.objects.update(strangers)
    before = output_objects(job, start)
    expected = own | dict.fromkeys(STRANGERS, b"somebody's")
    refusals: Counter[str] = Counter()
    for where, left in cuts(start, lambda faulty: run(new_job, faulty, restart=True)):
        assert strangers.items() <= left.objects.items()
        check_success(job, left)
        if refusal := refusal_of(new_job, later(left)):
            is_untouched = output_objects(job, left) == before
            message = "another job's output" if is_untouched else "run again with --restart to complete it"
            assert message in refusal, where
            refusals[message] += 1
        else:
            plain = later(left)
            run(new_job, plain)
            assert output_objects(new_job, plain) == expected, where
        run(new_job, left, restart=True)
        assert output_objects(new_job, left) == expected, where
    assert min(refusals.values()) > 5
    assert len(refusals) == 2


def refusal_of(job: Job, store: MemoryStore) -> str:
    """Why a plain run is refused, or ''."""
    try:
        run(job, store)
    except JobError as error:
        return str(error)
    return ""


def retry_that_died(job: Job, start: MemoryStore) -> MemoryStore:
    """Records, checkpoints and a reopened part are all there."""
    store = later(start)
    with pytest.raises(Killed):
        run(job, store, ("p3",), on_task=dies_before("p4"), retry_failed=True)
    return later(store)
