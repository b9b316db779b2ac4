"""The command ``status``, and what ``run`` says to programs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inmemory import picture_bytes

from stylebatch.cli import main
from stylebatch.cli import status as command
from stylebatch.cli.status_lines import ADVICE, status_lines
from stylebatch.cluster import driver
from stylebatch.cluster.event_log import EventLog
from stylebatch.cluster.progress import Progress
from stylebatch.job import Tally, status
from stylebatch.job.bulletin import FailureKind, WorkerNote
from stylebatch.job.status import Driver, State, Status, read_status
from stylebatch.storage import UriStore

RUNNING = Status(
    output="s3://bucket/out",
    state=State.RUNNING,
    reason="",
    rows=1000,
    ended=250,
    ok=240,
    failed=10,
    pairs_per_hour=100.4,
    seconds_left=27000.0,
    heartbeat_seconds=7.0,
    told_seconds=3.0,
    driver=Driver("head", 17, "2025-11-28T10:00:00+00:00"),
    failures=(
        FailureKind("PictureError", 7, ("p1: it is empty",)),
        FailureKind("SynthesisError", 1, ("p2: no",)),
    ),
    workers=4,
    stages={"synthesizing": 3, "starting": 1},
    listed=(
        WorkerNote("spot-1", 4, "cuda", "synthesizing", 3, ("p7", "p8", "p9"), 12, 500),
        WorkerNote("spot-2", 5, "cuda", "synthesizing", 1, ("p10",), 0, 500),
        WorkerNote("", 0, "", "starting"),
    ),
    notices=("a worker is replaced",),
    remarks=("the driver is alive",),
)


def test_how_a_run_that_goes_on_reads() -> None:
    assert [*status_lines(RUNNING)] == [
        "s3://bucket/out: running, by process 17 on head since 2025-11-28T10:00:00+00:00, heard of 7 s ago",
        "250 of 1000 pairs ended, 240 ok, 10 failed, 100 pairs/h, 7 h 30 min left, told 3 s ago",
        "  7 x PictureError:",
        "    p1: it is empty",
        "    ... and 6 more",
        "  1 x SynthesisError:",
        "    p2: no",
        "  2 more failed: s3://bucket/out/results says why (error_type, error)",
        "4 workers: 3 synthesizing, 1 starting",
        "  spot-1 cuda: synthesizing p7 and 2 more (12/500)",
        "  spot-2 cuda: synthesizing p10 (0/500)",
        "  no place yet: starting",
        "  ... and 1 more",
        "Told: a worker is replaced",
        "Note: the driver is alive.",
    ]


BARE: dict[str, Any] = {
    "failures": (),
    "notices": (),
    "remarks": (),
    "pairs_per_hour": None,
    "seconds_left": None,
}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {"state": State.FINISHED, "ended": 1000, "ok": 1000, "failed": 0},
            ["s3://bucket/out: finished", "1000 of 1000 pairs ended, 1000 ok, 0 failed"],
        ),
        (
            {"state": State.STOPPED, "reason": "stopped by SIGTERM: 250 of 1000", "driver": None},
            [
                "s3://bucket/out: stopped, heard of 7 s ago",
                "250 of 1000 pairs ended, 240 ok, 10 failed",
                "Reason: stopped by SIGTERM: 250 of 1000",
                "  10 more failed: s3://bucket/out/results says why (error_type, error)",
                ADVICE,
            ],
        ),
        (
            {"state": State.DEAD, "reason": "it fell", "failed": None, "ok": None, "ended": 256},
            [
                "s3://bucket/out: dead, last by process 17 on head since 2025-11-28T10:00:00+00:00, "
                "heard of 7 s ago",
                "at least 256 of 1000 pairs ended",
                "Reason: it fell",
                ADVICE,
            ],
        ),
        (
            {"rows": None, "ok": None, "failed": None, "workers": 0},
            [
                "s3://bucket/out: running, by process 17 on head since 2025-11-28T10:00:00+00:00, "
                "heard of 7 s ago",
                "The output is being prepared.",
            ],
        ),
    ],
)
def test_how_others_read(changes: dict[str, Any], lines: list[str]) -> None:
    assert [*status_lines(replace(RUNNING, **BARE | changes))] == lines


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """``looks(status, ...)``: what the command finds, look after look; returns where it looks, as it does."""
    places: list[str] = []

    def find(*found: Status) -> list[str]:
        waiting: Iterator[Status] = iter(found)

        def read(store: object, output: str, finders: object) -> Status:
            assert isinstance(store, UriStore)
            places.append(output)
            return next(waiting)

        monkeypatch.setattr(status, "read_status", read)
        monkeypatch.setattr(command, "WATCH_SECONDS", 0.0)
        return places

    return find


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (replace(RUNNING, state=State.FINISHED, failed=0), 0),
        (replace(RUNNING, state=State.FINISHED), 1),
        (replace(RUNNING, state=State.STOPPED), 3),
        (replace(RUNNING, state=State.DEAD), 3),
        (RUNNING, 4),
    ],
)
def test_the_exit_code_says_how_it_stands(
    looks: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], found: Status, code: int
) -> None:
    places = looks(found)
    assert main(["status", "s3://bucket/out"]) == code
    assert places == ["s3://bucket/out"]
    assert capsys.readouterr().out.splitlines() == [*status_lines(found)]


def test_as_json(looks: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    looks(RUNNING)
    assert main(["status", "s3://bucket/out", "--json"]) == 4
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["state"], found["ok"], found["driver"]["host"]) == ("running", 240, "head")
    assert found["failures"][0] == {"error_type": "PictureError", "count": 7, "examples": ["p1: it is empty"]}
    assert found.keys() == RUNNING.to_dict().keys()


def test_watching_ends_with_the_run(
    looks: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    places = looks(RUNNING, RUNNING, replace(RUNNING, state=State.FINISHED))
    assert main(["status", "s3://bucket/out", "--watch", "--json"]) == 1
    assert len(places) == 3
    states = [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()]
    assert states == ["running", "running", "finished"]


def test_where_no_run_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert "is not the output of a run: it holds no job.json" in capsys.readouterr().err


def test_the_help_documents_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["status", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for part in (
        "0 finished",
        "1 finished, some failed",
        "2 there is no run",
        "3 nobody works",
        "4 a driver",
    ):
        assert part in told


class TestLogOfEvents:
    @pytest.fixture
    def watchers(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
        """What :func:`run_job` was given; the working directory holds ``pairs.parquet``."""
        given: list[Any] = []

        def run_job(job: Any, store: Any, options: Any, observe: Any, watchers: Any) -> Tally:
            given.extend(watchers)
            for watcher in watchers:
                watcher.observe(Progress(1, 1, 0, 1, 1.0, (), ("take note",)))
            return Tally(ok=1)

        monkeypatch.setattr(driver, "run_job", run_job)
        monkeypatch.chdir(tmp_path)
        pq.write_table(pa.table({"content": ["a.png"]}), tmp_path / "pairs.parquet")
        return given

    def test_without_the_option_there_is_none(self, watchers: list[Any]) -> None:
        assert main(["run", "pairs.parquet", "-o", "out"]) == 0
        assert watchers == []

    def test_to_a_file(self, watchers: list[Any], tmp_path: Path) -> None:
        for _ in range(2):
            assert main(["run", "pairs.parquet", "-o", "out", "--log-json", "events.jsonl"]) == 0
        assert [type(watcher) for watcher in watchers] == [EventLog, EventLog]
        lines = (tmp_path / "events.jsonl").read_text().splitlines()
        assert [json.loads(line)["text"] for line in lines] == ["take note", "take note"]

    def test_a_file_that_cannot_be_written_is_refused(
        self, watchers: list[Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["run", "pairs.parquet", "-o", "out", "--log-json", "no/such/folder"]) == 2
        told = capsys.readouterr().err
        assert told.startswith(
            "stylebatch: --log-json no/such/folder: No such file or directory; give a file"
        )
        assert watchers == []


def small_manifest(folder: Path, pairs: int) -> Path:
    for number in range(pairs):
        (folder / f"c{number}.png").write_bytes(picture_bytes(40, 30, number))
    (folder / "s.png").write_bytes(picture_bytes(32, 32, 9))
    names = [f"c{number}.png" for number in range(pairs)]
    path = folder / "pairs.parquet"
    pq.write_table(pa.table({"content": names, "style": ["s.png"] * pairs}), path)
    return path


def stylebatch(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stylebatch", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_driver_that_is_killed_is_known_to_be_dead_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status looks at the output of a real run while it goes on, and after kill -9."""
    manifest, output = small_manifest(tmp_path, 2), tmp_path / "out"
    run = stylebatch(
        *("run", str(manifest), "-o", str(output), "--workers", "1", "--log-json", "-"),
        *("--set", "size=32", "--set", "iterations=100000"),
    )
    assert run.stdout is not None
    try:
        events = (json.loads(line) for line in run.stdout)
        next(event for event in events if event["event"] == "batch_dispatched")
        assert main(["status", str(output)]) == 4
        told = capsys.readouterr().out.splitlines()
        assert f"by process {run.pid} on " in told[0]
        assert told[1].startswith("0 of 2 pairs ended, 0 ok, 0 failed, told ")
    finally:
        os.kill(run.pid, signal.SIGKILL)
        run.communicate(timeout=30)
    assert main(["status", str(output)]) == 3
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"{output}: dead, last by process {run.pid} on ")
    assert told[2] == "Reason: its driver, a process of this machine, has ended without a word"
    assert told[-1] == ADVICE


def test_a_run_that_is_asked_to_end_says_so(tmp_path: Path) -> None:
    """With its events on standard output, which is for them alone."""
    manifest, output = small_manifest(tmp_path, 1), tmp_path / "out"
    run = stylebatch(
        *("run", str(manifest), "-o", str(output), "--workers", "1", "--log-json", "-", "--grace", "0"),
        *("--set", "size=32", "--set", "iterations=100000"),
    )
    events: list[dict[str, Any]] = []
    with run:
        assert run.stdout is not None
        assert run.stderr is not None
        for line in run.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "batch_dispatched":
                run.send_signal(signal.SIGTERM)
        err = run.stderr.read()
    assert run.returncode == 3, err
    names = [event["event"] for event in events]
    assert names == ["run_started", "worker_ready", "batch_dispatched", "run_stopped"]
    assert events[-1]["reason"].startswith("stopped by SIGTERM: 0 of 1 pairs have ended")
    assert f"1 pairs from {manifest}" in err
    assert "To go on where it stopped:" in err
    found = read_status(UriStore(), str(output))
    assert (found.state, found.reason) == (State.STOPPED, events[-1]["reason"])
