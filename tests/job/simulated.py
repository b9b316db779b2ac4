"""Runs of a job without Ray, and a store that fails or dies at one of its calls."""

import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from inmemory import MemoryStore

from stylebatch.errors import StorageUnavailableError
from stylebatch.job import (
    Job,
    Tally,
    UnitBook,
    committed_row,
    merge_at_end,
    open_output,
    pending_tasks,
    publish_part,
    publish_success,
    store_failure,
)
from stylebatch.job.merge_plan import MergeLimits
from stylebatch.layout import Row, encode_record, image_sha256
from stylebatch.objectstore import ObjectStore
from stylebatch.pairs import Pair
from stylebatch.work import Task, failed_row, source_facts

JobMaker = Callable[..., Job]

CHANGES = frozenset(["put", "put_file", "copy", "put_if_absent", "put_if_version", "delete"])
LOOKS = frozenset(["get", "get_range", "size", "version", "age", "list", "has_conditional_puts", "sweep"])
KINDS = ("dies", "fails", "loses the answer")


class Killed(BaseException):
    """What a process meets that is killed: nothing that it would still do happens."""


class FaultyStore:
    """A store whose call with a certain number fails; the calls are counted from 0.

    Args:
        inner: The store that does the work.
        number: The call.
        kind: ``dies``: that call and all later ones raise Killed and do nothing. ``fails``: that call does
            nothing and raises a StorageError. ``loses the answer``: it does its work and raises one, if it
            is one that changes something.
    """

    def __init__(self, inner: MemoryStore, number: int | None = None, kind: str = "dies") -> None:
        self.calls = 0
        self.was_hit = False
        self._inner = inner
        self._number = number
        self._kind = kind
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        return self._counted(name, method) if name in CHANGES | LOOKS else method

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(uri: str, *arguments: Any) -> Any:
            with self._lock:
                number, self.calls = self.calls, self.calls + 1
            is_hit = number == self._number and (self._kind != "loses the answer" or name in CHANGES)
            self.was_hit |= is_hit
            if self._kind == "dies" and self._number is not None and number >= self._number:
                raise Killed(f"{name} {uri}")
            if is_hit and self._kind == "fails":
                raise StorageUnavailableError(f"{name} {uri}: no answer")
            result = method(uri, *arguments)
            result = iter(list(result)) if name == "list" else result
            if is_hit:
                raise StorageUnavailableError(f"{name} {uri}: the answer was lost")
            return result

        return call


def pairs(job: Job) -> list[Pair]:
    return list(job.manifest.pairs(job.recipe))


def picture(pair: Pair, by: str = "us") -> bytes:
    return f"the picture of {pair.pair_id} by {by} with {pair.recipe.fingerprint}".encode()


def ok_row(pair: Pair, image: bytes, attempts: int = 1) -> dict[str, Any]:
    """A row with maps, lists and nulls, as a worker makes them."""
    return {
        **source_facts(pair),
        **pair.recipe.to_dict(),
        "recipe_sha256": pair.recipe.fingerprint,
        "status": "ok",
        "image": f"{pair.pair_id}.png",
        "image_sha256": image_sha256(image),
        "width": 48,
        "height": 36,
        "loss": 0.1 + pair.row,
        "content_loss": None,
        "layer_losses": {"conv1_1": 0.25, "conv2_1": None},
        "loss_curve": [3.5, None, 0.1 + pair.row],
        "seconds": 1.5,
        "attempts": attempts,
        "style_sha256": ["b" * 64],
        "start_sha256": None,
        "host": hashlib.sha256(image).hexdigest()[:8],
    }


def publish_as_worker(job: Job, store: ObjectStore, task: Task, image: bytes) -> dict[str, Any] | None:
    """The record, then the image, as :func:`stylebatch.pair.publishing.publish` does it."""
    row = ok_row(task.pair, image, task.attempt)
    layout, pair_id = job.layout, task.pair.pair_id
    store.put(layout.record(task.unit, pair_id, image_sha256(image)), encode_record(row))
    return row if store.put_if_absent(layout.image(task.unit, pair_id, ".png"), image) else None


def work(
    job: Job, store: ObjectStore, task: Task, failing: Collection[str], rivals: Collection[str] = ("p4",)
) -> Row:
    """One pair. Where it has a rival, an attempt that was taken for dead commits its picture first."""
    pair = task.pair
    store.put(job.layout.checkpoint(task.unit, pair.pair_id), b"half way")
    if pair.pair_id in failing:
        row = failed_row(pair, "NotFoundError", f"{pair.content} is missing", task.attempt)
        store_failure(job, store, task.unit, row)
        return row
    if pair.pair_id in rivals:
        publish_as_worker(job, store, task, picture(pair, "a rival"))
    return publish_as_worker(job, store, task, picture(pair)) or committed_row(job, store, task)


def run(
    job: Job,
    store: Any,
    failing: Collection[str] = ("p1",),
    on_task: Callable[[Task], None] = lambda task: None,
    limits: MergeLimits | None = None,
    **options: bool,
) -> Tally:
    """A run from its start to its end. No pair that has its picture is worked on again.

    With ``limits``, parts are merged at the end as these say.
    """
    opened = open_output(job, store, **options)
    try:
        book = UnitBook(job, opened.tally)
        for task in pending_tasks(job, opened, book):
            on_task(task)
            image = job.layout.image(task.unit, task.pair.pair_id, ".png")
            assert image not in getattr(store, "objects", ())
            book.add(task.unit, work(job, opened.store, task, failing), is_new=True)
            publish_complete(job, opened.store, book)
        publish_complete(job, opened.store, book)
        opened.lease.check()
        if limits:
            merge_at_end(job, opened, limits=limits)
        publish_success(job, opened.store, book.tally)
        return book.tally
    finally:
        opened.lease.release()


def finished(job: Job, store: MemoryStore, failing: tuple[str, ...] = ("p1",)) -> MemoryStore:
    """The output of a job that has run to its end."""
    run(job, store, failing)
    return later(store)


def publish_complete(job: Job, store: ObjectStore, book: UnitBook) -> None:
    for unit, rows in book.take_complete():
        publish_part(job, store, unit, rows)


def later(store: MemoryStore) -> MemoryStore:
    """What a new process meets after a while: the same objects, and no lease that is still renewed."""
    found = MemoryStore(store.objects)
    found.clock = lambda: 1000.0
    return found


def cuts(
    start: MemoryStore, runs: Callable[[Any], object], kinds: Sequence[str] = KINDS
) -> Iterator[tuple[str, MemoryStore]]:
    """What is left in the store after a run was hit at each of its calls, in each way."""
    whole = FaultyStore(later(start))
    runs(whole)
    for kind, number in itertools.product(kinds, range(whole.calls)):
        hit = later(start)
        faulty = FaultyStore(hit, number, kind)
        with suppress(Killed, StorageUnavailableError):
            runs(faulty)
        if faulty.was_hit:
            yield f"{kind} at {number}", later(hit)


def output_objects(job: Job, store: MemoryStore) -> dict[str, bytes]:
    """Everything below the output but the lease, by its name there."""
    prefix = job.output + "/"
    return {
        uri.removeprefix(prefix): data
        for uri, data in store.objects.items()
        if uri.startswith(prefix) and uri != job.layout.lease
    }


def table(job: Job, store: MemoryStore) -> list[dict[str, Any]]:
    """The rows of all parts."""
    parts = sorted(uri for uri in store.objects if job.layout.part_unit(uri) is not None)
    return [row for uri in parts for row in pq.read_table(pa.BufferReader(store.objects[uri])).to_pylist()]


def check_whole(job: Job, store: MemoryStore) -> None:
    """A finished output: every row once, every picture its row's, nothing else left, the counts right."""
    rows = table(job, store)
    assert [row["row"] for row in rows] == list(range(job.manifest.num_rows))
    for row in rows:
        image = job.layout.image(row["row"] // job.unit_size, row["pair_id"], ".png")
        if row["status"] == "ok":
            assert image_sha256(store.objects[image]) == row["image_sha256"]
        else:
            assert image not in store.objects
    folders = {name.partition("/")[0] for name in output_objects(job, store)}
    assert folders.isdisjoint({"records", "checkpoints", "reopened"})
    failed = sum(row["status"] == "failed" for row in rows)
    counts = {"rows": len(rows), "ok": len(rows) - failed, "failed": failed}
    assert json.loads(store.objects[job.layout.success]) == counts


def check_unfinished(job: Job, store: MemoryStore) -> None:
    """What holds after any interruption: parts agree with their pictures."""
    rows = table(job, store)
    for row in rows:
        if row["status"] == "ok":
            image = job.layout.image(row["row"] // job.unit_size, row["pair_id"], ".png")
            assert image_sha256(store.objects[image]) == row["image_sha256"]
    check_success(job, store)


def check_success(job: Job, store: MemoryStore) -> None:
    """_SUCCESS is there only while everything else is."""
    if job.layout.success in store.objects:
        assert len(table(job, store)) == job.manifest.num_rows
