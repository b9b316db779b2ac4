"""What it costs to open an output again: requests for each unit, never for each row of a finished one."""

from collections import Counter

import pytest
from inmemory import MemoryStore
from simulated import JobMaker, finished, ok_row, pairs, publish_as_worker

from stylebatch.job import Job, UnitBook, open_output, pending_tasks, publish_part, store_failure
from stylebatch.work import Task, failed_row

FIXED = Counter(
    {
        "has_conditional_puts": 1,
        "put_if_absent": 1,  # the lease
        "version": 1,
        "get": 2,  # the lease, job.json
        "age": 1,
        "list": 4,  # results, reopened, records, checkpoints
        "sweep": 3,  # OUT, results, reopened
        "put_if_version": 1,  # to give the lease up
        "delete": 1,
    }
)
"""Calls of opening an output again, whatever it holds."""
A_FINISHED_UNIT = Counter({"size": 1, "get_range": 1})
"""A part of more than 64 KiB needs one ranged read more, and another one if some of its rows have failed."""
UNFINISHED = Counter({"delete": 1})
"""Of ``_SUCCESS``, where there is an open unit."""
AN_OPEN_UNIT = Counter({"sweep": 2})
"""With records: their folder, and that of the images."""


class TestCost:
    """Requests are proportional to units, never to rows of finished ones."""

    @staticmethod
    def cost(job: Job, store: MemoryStore) -> tuple[Counter[str], Counter[str]]:
        """Calls below the output: of opening it, and of what follows until all tasks are known."""
        job.manifest.fingerprint()
        store.operations.clear()
        output = open_output(job, store)
        output.lease.release()
        opening = Counter(method for method, uri in store.operations if uri.startswith(job.output))
        store.operations.clear()
        list(pending_tasks(job, output, UnitBook(job, output.tally)))
        return opening, Counter(method for method, uri in store.operations if uri.startswith(job.output))

    @pytest.mark.parametrize("units", [1, 3, 20])
    @pytest.mark.parametrize("unit_size", [2, 20])
    def test_of_finished_units(
        self, make_job: JobMaker, store: MemoryStore, units: int, unit_size: int
    ) -> None:
        job = make_job(rows=units * unit_size, unit_size=unit_size)
        opening, rest = self.cost(job, finished(job, store))
        assert opening == FIXED + times(units, A_FINISHED_UNIT)
        assert rest == Counter()

    @pytest.mark.parametrize("open_units", [1, 5])
    def test_of_open_units(self, make_job: JobMaker, store: MemoryStore, open_units: int) -> None:
        """Each with a good pair, a lost attempt's record, a failed pair and two that are to be done."""
        job = make_job(rows=40, unit_size=4)
        left = finished(job, store, failing=())
        for unit in range(open_units):
            left.delete(job.layout.part(unit))
            for uri in [uri for uri in left.objects if uri.startswith(job.layout.images(unit))]:
                left.delete(uri)
            first, second = pairs(job)[4 * unit : 4 * unit + 2]
            publish_as_worker(job, left, Task(first, unit), b"won")
            publish_as_worker(job, left, Task(first, unit), b"lost")
            store_failure(job, left, unit, failed_row(second, "NotFoundError", "gone", 1))
        opening, rest = self.cost(job, left)
        assert opening == (
            FIXED + UNFINISHED + times(10 - open_units, A_FINISHED_UNIT) + times(open_units, AN_OPEN_UNIT)
        )
        its_pairs = Counter({"list": 1, "get": 3})  # the images; an image, its record, a failed record
        assert rest == times(open_units, its_pairs)

    @pytest.mark.parametrize("reopened", [1, 5])
    def test_of_reopened_units(self, make_job: JobMaker, store: MemoryStore, reopened: int) -> None:
        job = make_job(rows=40, unit_size=4)
        left = finished(job, store, failing=tuple(f"p{4 * unit}" for unit in range(reopened)))
        open_output(job, left, retry_failed=True).lease.release()
        opening, rest = self.cost(job, left)
        assert opening == FIXED + UNFINISHED + times(10 - reopened, A_FINISHED_UNIT)
        assert rest == times(reopened, A_FINISHED_UNIT)

    def test_of_a_large_part(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(rows=256, unit_size=256)
        members = pairs(job)
        rows = [
            ok_row(pair, b"x") | {"loss_curve": [pair.row / (i + 3) for i in range(500)]} for pair in members
        ]
        open_output(job, store).lease.release()
        publish_part(job, store, 0, rows)
        assert len(store.objects[job.layout.part(0)]) > 400_000
        opening, _ = self.cost(job, store)
        assert opening == FIXED + A_FINISHED_UNIT + Counter({"get_range": 1})
        assert sum(length for uri, length in store.read if uri == job.layout.part(0)) < 80_000

    def test_of_a_new_job(self, make_job: JobMaker, store: MemoryStore) -> None:
        opening, rest = self.cost(make_job(), store)
        # job.json is put; three folders are listed; only the output's own is swept
        new = Counter({"put_if_absent": 1, "list": -1, "sweep": -2})
        expected = Counter(FIXED)
        expected.update(new)
        assert opening == +expected
        assert rest == Counter()


def times(number: int, calls: Counter[str]) -> Counter[str]:
    return Counter({method: number * count for method, count in calls.items()})
