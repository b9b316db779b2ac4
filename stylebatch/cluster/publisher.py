"""Publishing parts beside the driver's loop, as long as the output is the driver's own."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from stylebatch.cluster.events import PartPublished, Tell, nobody
from stylebatch.job import Job, Lease, publish_part
from stylebatch.layout import Row
from stylebatch.objectstore import ObjectStore

PUBLISHERS = 4
"""Parts that are published at once."""


class PartPublisher:
    """Publishes parts in threads of its own, a few at a time: a unit's records are many small requests."""

    def __init__(self, job: Job, store: ObjectStore, lease: Lease, tell: Tell = nobody) -> None:
        self._job = job
        self._store = store
        self._lease = lease
        self._tell = tell
        self._threads = ThreadPoolExecutor(PUBLISHERS, thread_name_prefix="publisher")
        self._under_way: list[Future[None]] = []

    def submit(self, unit: int, rows: Sequence[Row]) -> None:
        """Publish a unit whose rows have all ended."""
        self._under_way.append(self._threads.submit(self._publish, unit, rows))

    def _publish(self, unit: int, rows: Sequence[Row]) -> None:
        self._lease.check()
        publish_part(self._job, self._store, unit, rows)
        self._tell(PartPublished(unit, self._job.layout.part(unit)))

    def check(self) -> None:
        """Raise what went wrong with a part since the last call."""
        for future in [future for future in self._under_way if future.done()]:
            self._under_way.remove(future)
            future.result()

    def finish(self) -> None:
        """Wait until everything is published."""
        for future in self._under_way:
            future.result()
        self._under_way = []

    def close(self) -> None:
        """Start no further part; wait for those under way."""
        self._threads.shutdown(cancel_futures=True)
