"""The event log: every event a line, whatever becomes of the file."""

import json
import os
import threading
import time
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from stylebatch.cluster import event_log as module
from stylebatch.cluster.event_log import EventLog, event_log
from stylebatch.cluster.events import BatchDispatched, Notice
from stylebatch.cluster.progress import Progress, WorkerProgress
from stylebatch.work import Activity

PROGRESS = Progress(2, 0, 0, 0, 0.0, (WorkerProgress("spot", 1, "cuda", Activity()),), ("take note",))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_events_are_appended_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event":"of an earlier run"}\n')
    with FileIO(path, "a") as file, event_log(file) as log:
        for number in range(1000):
            log.tell(Notice(f"ü {number}"))
        assert log.observe(PROGRESS) == []
        assert log.observe(PROGRESS) == []
    first, *told, ready, notice, again = lines(path)
    assert first == {"event": "of an earlier run"}
    assert [line["text"] for line in told] == [f"ü {number}" for number in range(1000)]
    assert (ready["event"], ready["process"]) == ("worker_ready", 1)
    assert [notice["text"], again["text"]] == ["take note", "take note"]
    times = [line["time"] for line in told]
    assert times == sorted(times)


def complaints_of(log: EventLog, deadline: float = 10.0) -> list[str]:
    """What the log says of itself, once it does."""
    end = time.monotonic() + deadline
    quiet = Progress(2, 0, 0, 0, 0.0, ())
    while time.monotonic() < end:
        if complaints := log.observe(quiet):
            return complaints
        time.sleep(0.001)
    return []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_is_said_once() -> None:
    with FileIO("/dev/full", "a") as file, event_log(file) as log:
        for _ in range(3):
            log.tell(Notice("take note"))
        (complaint,) = complaints_of(log)
        assert complaint.startswith("the event log cannot be written; the run goes on: ")
        assert "No space left" in complaint
        log.tell(Notice("take note"))
        assert complaints_of(log, deadline=0.2) == []


def test_a_pipe_that_nobody_reads_any_more_is_said() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with FileIO(writer, "w") as file, event_log(file) as log:
        log.tell(Notice("take note"))
        (complaint,) = complaints_of(log)
    assert "Broken pipe" in complaint


class Reluctant(FileIO):
    """Takes a few bytes at a time, and fails where it is told to."""

    def __init__(self, path: Path, failing: tuple[int, ...]) -> None:
        super().__init__(path, "a")
        self._failing = failing
        self._calls = 0

    def write(self, data: Any) -> int:
        self._calls += 1
        if self._calls - 1 in self._failing:
            raise OSError("not now")
        return super().write(bytes(data)[:40])


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Reluctant(path, failing=(0, 3)) as file, event_log(file) as log:
        for text in ("lost whole", "cut off in the middle of it", "whole again", "the last one"):
            log.tell(Notice(text))
    cut, *whole = path.read_text().splitlines()
    assert '"event":"notice"' in cut
    with pytest.raises(ValueError, match=r"Unterminated|delimiter|Expecting"):
        json.loads(cut)
    assert [json.loads(line)["text"] for line in whole] == ["whole again", "the last one"]


def test_a_reader_that_is_too_slow_loses_events_and_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SECONDS_TO_STOP", 0.05)
    reader, writer = os.pipe()
    file = FileIO(writer, "w")
    log, started = EventLog(file, most_waiting=3), time.monotonic()
    for _ in range(100):
        log.tell(Notice("x" * 60_000))  # a pipe takes 64 KiB
    assert time.monotonic() - started < 2
    (complaint,) = log.observe(Progress(2, 0, 0, 0, 0.0, ()))
    assert complaint.startswith("the event log is too slow: 9")
    log.close()
    assert time.monotonic() - started < 4
    emptying = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(reader, 1 << 20), b"")])
    emptying.start()
    monkeypatch.setattr(module, "SECONDS_TO_STOP", 10.0)
    log.close()
    file.close()
    emptying.join(10)
    os.close(reader)


def test_a_worker_is_ready_before_it_is_given_pairs(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with FileIO(path, "a") as file, event_log(file) as log:
        log.tell(BatchDispatched("spot", 1, "cuda", ("p0",)))
        log.observe(PROGRESS)
        log.tell(BatchDispatched("spot", 1, "cuda", ("p1",)))
        log.observe(Progress(2, 0, 0, 0, 0.0, ()))
    names = [line["event"] for line in lines(path)]
    assert names == ["worker_ready", "batch_dispatched", "notice", "batch_dispatched", "worker_gone"]
