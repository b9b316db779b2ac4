"""Parts are published beside the loop, by who holds the lease."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from inmemory import MemoryStore, make_manifest

from stylebatch.cluster.driver import run_job
from stylebatch.cluster.publisher import PartPublisher
from stylebatch.cluster.schedule import Candidate
from stylebatch.errors import JobStoppedError, LeaseError, StorageFullError
from stylebatch.job import Job, Lease, open_output, publish_part
from stylebatch.job.lease import Machine
from stylebatch.work import failed_row


class Desk:
    """A job of two units with a row each, and its publisher."""

    def __init__(self, make_candidate: Callable[..., Candidate]) -> None:
        self.store = MemoryStore()
        pairs = [make_candidate(number).task.pair for number in range(2)]
        manifest = make_manifest(self.store, {"pair_id": ["p0", "p1"], "content": ["/c.png"] * 2})
        self.job = Job(manifest, pairs[0].recipe, "s3://bucket/out", "a" * 64, unit_size=1)
        self.rows: list[Any] = [failed_row(pair, "PictureError", "it is empty", 1) for pair in pairs]
        self.lease = Lease.take(self.store, self.job.layout, replace(Machine.here(), beat_seconds=None))
        self.publisher = PartPublisher(self.job, self.store, self.lease)

    @property
    def parts(self) -> list[str]:
        return [stored.uri for stored in self.store.list(self.job.layout.results)]


@pytest.fixture
def desk(make_candidate: Callable[..., Candidate]) -> Desk:
    return Desk(make_candidate)


def test_parts_are_published_in_turn(desk: Desk) -> None:
    desk.publisher.submit(1, desk.rows[1:])
    desk.publisher.submit(0, desk.rows[:1])
    desk.publisher.finish()
    desk.publisher.close()
    assert desk.parts == [desk.job.layout.part(0), desk.job.layout.part(1)]


def test_who_lost_the_lease_publishes_nothing(desk: Desk) -> None:
    desk.store.delete(desk.job.layout.lease)
    desk.lease.renew()  # as its thread does
    desk.publisher.submit(0, desk.rows[:1])
    with pytest.raises(LeaseError, match="was removed"):
        desk.publisher.finish()
    desk.publisher.close()
    assert desk.parts == []


def test_a_failure_comes_to_the_loop(desk: Desk) -> None:
    desk.store.errors["put", desk.job.layout.part(0)] = StorageFullError("no room is left")
    desk.publisher.submit(0, desk.rows[:1])
    desk.publisher.close()
    with pytest.raises(StorageFullError, match="no room"):
        desk.publisher.check()
    desk.publisher.check()  # once


def test_a_job_whose_last_word_fails_has_stopped_part_way(desk: Desk) -> None:
    desk.lease.release()
    open_output(desk.job, desk.store).lease.release()
    for unit in desk.job.units:
        publish_part(desk.job, desk.store, unit, [desk.rows[unit]])
    desk.store.errors["put", desk.job.layout.success] = StorageFullError("no room is left")
    with pytest.raises(JobStoppedError, match="no room is left"):
        run_job(desk.job, desk.store)
    desk.store.errors.clear()
    assert run_job(desk.job, desk.store).failed == 2
    assert desk.job.layout.success in desk.store.objects
    assert desk.job.layout.lease not in desk.store.objects
