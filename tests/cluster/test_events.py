"""What happens in a run, as values and as lines."""

import json
import re
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from stylebatch.cluster import events
from stylebatch.cluster.events import (
    BatchDispatched,
    Event,
    PairEnded,
    WorkerGone,
    WorkerLost,
    WorkerReady,
    batch_dispatched,
    batch_ended,
    event_line,
    pair_ended,
    worker_changes,
    worker_lost,
)
from stylebatch.cluster.progress import WorkerProgress
from stylebatch.cluster.schedule import Candidate
from stylebatch.work import Activity, Outcome, Spent, Task, failed_row

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "operating.md"
MakeTask = Callable[..., Task]
IDLE = Activity()


def worker(process: int, host: str = "spot") -> WorkerProgress:
    return WorkerProgress(host, process, "cuda", IDLE)


STARTING = WorkerProgress("", 0, "", Activity("starting"))


def test_a_line_has_a_time_a_name_and_what_the_event_says() -> None:
    now = datetime(2025, 11, 28, 13, 30, 0, 123_456, tzinfo=timezone(timedelta(hours=1)))
    line = event_line(WorkerReady("spot\n", 7, "cuda"), now)
    assert line == (
        '{"time":"2025-11-28T12:30:00.123Z","event":"worker_ready","host":"spot\\n","process":7,"device":"cuda"}'
    )


def test_every_event_has_a_name_of_its_own() -> None:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    names = [kind.name for kind in kinds if kind is not Event]
    assert len(names) == len(set(names)) == 11


def test_a_good_pair_ends_with_its_facts(make_task: MakeTask) -> None:
    row = {"status": "ok", "attempts": 2, "seconds": 7.5, "evaluations": 100, "smaller_evaluations": [30, 60]}
    row |= {"target_hits": 5, "target_misses": 1}
    ended = pair_ended(make_task(3), row)
    assert ended == PairEnded("p3", 3, 0, "ok", 2, 7.5, 190, 5, 1, None, None)


def test_a_failed_pair_ends_with_its_reason(make_task: MakeTask) -> None:
    task = make_task(3, attempt=2)
    row = failed_row(task.pair, "PictureError", "it is empty", 2)
    ended = pair_ended(task, row)
    assert ended == PairEnded("p3", 3, 0, "failed", 2, None, 0, 0, 0, "PictureError", "it is empty")


def test_a_batch_ends_with_what_was_spent(make_task: MakeTask) -> None:
    spent = Spent(fetch_seconds=1.5, bytes_read=7)
    outcomes = [Outcome(make_task(0)), Outcome(make_task(1), spent=spent)]
    ended = batch_ended(outcomes)
    assert (ended.pair_ids, ended.spent) == (("p0", "p1"), spent)
    assert json.loads(event_line(ended, datetime.now(UTC)))["spent"]["bytes_read"] == 7
    assert batch_ended(outcomes[:1]).spent == Spent()


@pytest.mark.parametrize(
    ("known", "now", "changes"),
    [
        ([], [STARTING], []),
        ([], [STARTING, worker(1)], [WorkerReady("spot", 1, "cuda")]),
        ([("spot", 1)], [worker(1)], []),
        ([("spot", 1), ("spot", 2)], [STARTING, worker(2)], [WorkerGone("spot", 1)]),
        ([("spot", 1)], [worker(1, "other")], [WorkerGone("spot", 1), WorkerReady("other", 1, "cuda")]),
        ([("spot", 1), ("spot", 2)], [worker(2), worker(1)], []),
    ],
)
def test_workers_come_and_go(
    known: list[tuple[str, int]], now: list[WorkerProgress], changes: list[Event]
) -> None:
    assert [*worker_changes(known, now)] == changes


def test_a_worker_is_given_pairs_and_is_lost_with_them(make_candidate: Callable[..., Candidate]) -> None:
    batch = [make_candidate(0), make_candidate(1)]
    assert batch_dispatched(worker(7), batch) == BatchDispatched("spot", 7, "cuda", ("p0", "p1"))
    assert worker_lost(worker(7), batch, "exit code 13") == WorkerLost(
        "spot", 7, "exit code 13", ("p0", "p1")
    )


def test_every_event_is_documented_with_what_it_says() -> None:
    documented = {}
    for line in DOCUMENTATION.read_text().splitlines():
        if row := re.fullmatch(r"\| `(\w+)` \| (?!`)[^|]+ \| ([^|]+) \|", line):
            documented[row[1]] = set(re.findall(r"`(\w+)`", row[2]))
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    for kind in kinds:
        if kind is not Event:
            assert documented[kind.name] == {field.name for field in fields(kind)}
