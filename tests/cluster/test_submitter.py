"""Submitting and following over a client with scripted faults: what is asked, how often, what is shown."""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scriptedjobs import ScriptedJobs, details

from stylebatch.cluster import submitter
from stylebatch.cluster.submission import JobEnd, Submission, SubmittedJob
from stylebatch.cluster.submitter import FOLLOW_TRIES, SUBMIT_TRIES, ClusterJobs, connect
from stylebatch.errors import ClusterError, JobError, JobStoppedError

REFUSED = RuntimeError("Request failed with status code 400: ... already exists")


def asked(**changes: Any) -> Submission:
    given: dict[str, Any] = {"stem": "s", "arguments": ("run",), "uploads": {}, "stop_seconds": 42}
    return Submission(**given | {"metadata": {"output": "s3://bucket/out"}} | changes)


class Follower:
    """What :meth:`ClusterJobs.follow` wrote, and how long it slept."""

    def __init__(self, jobs: ScriptedJobs) -> None:
        self.written: list[str] = []
        self.pauses: list[float] = []
        self.cluster = ClusterJobs("http://head:8265", jobs, self.pauses.append)

    def follow(self) -> JobEnd:
        return self.cluster.follow("s-1", self.written.append)


class TestSubmitting:
    def test_a_new_job(self) -> None:
        jobs = ScriptedJobs(
            [details(None, "RUNNING"), details("s-1", "SUCCEEDED"), details("t-5", "RUNNING")]
        )
        job, is_new = ClusterJobs("", jobs).submit(asked())
        assert is_new
        assert job == SubmittedJob("s-2", False, asked().entrypoint)
        assert jobs.submitted == [
            {
                "entrypoint": asked().entrypoint,
                "submission_id": "s-2",
                "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "42"}},
                "metadata": {"output": "s3://bucket/out"},
            }
        ]

    @pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
    def test_a_job_under_way_is_not_submitted_again(self, status: str) -> None:
        jobs = ScriptedJobs([details("s-3", status, "run there")])
        assert ClusterJobs("", jobs).submit(asked()) == (SubmittedJob("s-3", False, "run there"), False)
        assert jobs.submitted == []

    def test_only_what_was_named_travels(self, tmp_path: Path) -> None:
        (tmp_path / "pairs.parquet").write_bytes(b"pairs")
        (tmp_path / "secret").write_bytes(b"secret")
        jobs = ScriptedJobs()
        ClusterJobs("", jobs).submit(asked(uploads={"manifest/a/b.parquet": f"{tmp_path}/pairs.parquet"}))
        assert jobs.uploaded == [{"manifest/a/b.parquet": b"pairs"}]
        assert not Path(jobs.submitted[0]["runtime_env"]["working_dir"]).exists()

    def test_a_file_that_is_gone_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(JobError, match=r"gone\.parquet cannot be taken to the cluster: "):
            ClusterJobs("", ScriptedJobs()).submit(asked(uploads={"m": f"{tmp_path}/gone.parquet"}))

    def test_another_who_was_faster_is_joined(self) -> None:
        jobs = ScriptedJobs()

        def refuse(submission_id: str) -> None:
            jobs.jobs.append(details(submission_id, "RUNNING", "theirs"))
            raise REFUSED

        jobs.on_submit = refuse
        assert ClusterJobs("", jobs).submit(asked()) == (SubmittedJob("s-1", False, "theirs"), False)
        assert len(jobs.submitted) == 1

    def test_a_lost_answer_starts_no_second_job(self) -> None:
        jobs = ScriptedJobs()

        def lose(submission_id: str) -> None:
            jobs.jobs.append(details(submission_id, "PENDING", asked().entrypoint))
            raise ConnectionResetError

        jobs.on_submit = lose
        job, _ = ClusterJobs("", jobs).submit(asked())
        assert job.submission_id == "s-1"
        assert len(jobs.submitted) == 1

    def test_others_that_end_at_once_do_not_keep_it_for_ever(self) -> None:
        jobs = ScriptedJobs()

        def refuse(submission_id: str) -> None:
            jobs.jobs.append(details(submission_id, "FAILED"))
            raise REFUSED

        jobs.on_submit = refuse
        with pytest.raises(ClusterError, match="others submitted the same job at the same time"):
            ClusterJobs("", jobs).submit(asked())
        assert [words["submission_id"] for words in jobs.submitted] == [
            f"s-{number}" for number in range(1, SUBMIT_TRIES + 1)
        ]

    def test_a_refusal_is_said(self) -> None:
        jobs = ScriptedJobs()

        def refuse(submission_id: str) -> None:
            raise RuntimeError("Request failed with status code 500: no room")

        jobs.on_submit = refuse
        with pytest.raises(ClusterError, match=r"http://head: .*status code 500: no room"):
            ClusterJobs("http://head", jobs).submit(asked())
        assert len(jobs.submitted) == 1


class TestFollowing:
    def test_to_the_end(self) -> None:
        jobs = ScriptedJobs()
        jobs.logs, jobs.statuses, jobs.exit_code = [["one\n", "two\n"]], ["SUCCEEDED"], 0
        follower = Follower(jobs)
        assert follower.follow() == JobEnd("SUCCEEDED", 0, None, "a sentence")
        assert follower.written == ["one\n", "two\n"]
        assert follower.pauses == []

    def test_what_was_shown_is_not_shown_again(self) -> None:
        jobs = ScriptedJobs()
        jobs.logs = [
            ["one\n", "tw", ConnectionResetError()],
            ["one\ntw", "o\n"],  # ends as if the job had
            [RuntimeError("WebSocket connection closed")],
            ["one\ntwo\nthr", "ee\n"],
        ]
        jobs.statuses = ["RUNNING", "STOPPED"]
        follower = Follower(jobs)
        assert follower.follow().status == "STOPPED"
        assert "".join(follower.written) == "one\ntwo\nthree\n"
        assert follower.pauses == [2, 1, 2]

    def test_a_cluster_that_stays_away_is_given_up(self) -> None:
        jobs = ScriptedJobs()
        jobs.logs = [["one\n", OSError("gone")]] + [[OSError("gone")]] * (FOLLOW_TRIES - 1)
        follower = Follower(jobs)
        with pytest.raises(JobStoppedError, match=r"does not answer any more \(gone\); s-1 may go on"):
            follower.follow()
        assert jobs.logs == []
        assert follower.pauses == [2, 4, 8, 16, 16, 16, 16]

    def test_a_state_that_cannot_be_asked_for_is_asked_for_again(self) -> None:
        jobs = ScriptedJobs()
        jobs.logs, jobs.statuses = [["one\n"], ["one\n"]], [ConnectionError("away"), "FAILED"]
        follower = Follower(jobs)
        assert follower.follow().status == "FAILED"
        assert follower.written == ["one\n"]

    def test_a_connection_that_went_silent_is_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:

        monkeypatch.setattr(submitter, "SILENCE", 0.01)

        class Silent(ScriptedJobs):
            async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
                for piece in self.logs.pop(0):
                    assert isinstance(piece, str)
                    yield piece
                if self.logs:
                    await asyncio.sleep(3600)

        jobs = Silent()
        jobs.logs = [["one\n"], ["one\n", "two\n"]]
        jobs.statuses = ["RUNNING", "RUNNING", "SUCCEEDED", "SUCCEEDED"]
        follower = Follower(jobs)
        assert follower.follow().status == "SUCCEEDED"
        assert "".join(follower.written) == "one\ntwo\n"
        assert jobs.statuses == []


@contextmanager
def listening() -> Iterator[int]:
    """A port of loopback at which connections are taken, and closed without a word."""

    with socket.create_server(("127.0.0.1", 0)) as server:

        def close_all() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=close_all)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


class TestConnecting:
    def test_nobody_is_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(
            ClusterError, match=f"no Ray dashboard answers at http://127.0.0.1:{port}: .*refused"
        ):
            connect(f"http://127.0.0.1:{port}")

    def test_somebody_else_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # which Ray would prefer
        with listening() as port, pytest.raises(ClusterError, match=f"no Ray dashboard answers .*:{port}: "):
            connect(f"http://127.0.0.1:{port}")

        assert os.environ["RAY_ADDRESS"] == "http://127.0.0.1:1"

    def test_a_name_that_does_not_exist(self) -> None:
        with pytest.raises(ClusterError, match=r"no Ray dashboard answers at http://head\.invalid:8265"):
            connect("http://head.invalid:8265")
