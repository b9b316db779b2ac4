"""The command ``watch-spot``: what it passes on, and how it ends."""

from typing import Any

import pytest

from stylebatch.cli import main
from stylebatch.cluster import spot_watcher
from stylebatch.cluster.spot_watcher import InstanceMetadata
from stylebatch.errors import ClusterError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    made: list[tuple[Any, ...]] = []

    def watch(*arguments: Any) -> None:
        *others, say = arguments
        made.append(tuple(others))
        say("watching over machine ab")

    monkeypatch.setattr(spot_watcher, "watch", watch)
    return made


def endpoint(metadata: InstanceMetadata, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a question would go."""
    asked: list[str] = []

    def ask(method: str, path: str, headers: dict[str, str]) -> bytes:
        asked.append(metadata._endpoint + path)
        return b"token"

    monkeypatch.setattr(metadata, "_ask", ask)
    metadata.check()
    return asked[0]


def test_by_default_it_watches_this_machine_of_ec2(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch-spot"]) == 0
    ((address, node_id, metadata, grace),) = calls
    assert (address, node_id, grace) == ("auto", None, 25)
    assert endpoint(metadata, monkeypatch) == "http://169.254.169.254/latest/api/token"
    assert capsys.readouterr().out == "watching over machine ab\n"


def test_the_user_may_say_otherwise(calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--address", "head:6379", "--node-id", "cd", "--metadata", "http://127.0.0.1:99"]
    assert main(["watch-spot", *options, "--grace", "0"]) == 0
    ((address, node_id, metadata, grace),) = calls
    assert (address, node_id, grace) == ("head:6379", "cd", 0)
    assert endpoint(metadata, monkeypatch) == "http://127.0.0.1:99/latest/api/token"


def test_sigterm_alone(calls: list[tuple[Any, ...]]) -> None:
    assert main(["watch-spot", "--metadata", "none"]) == 0
    assert calls == [("auto", None, None, 25)]


def test_a_cluster_that_is_not_there_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> None:
        raise ClusterError("no Ray cluster at auto answers")

    monkeypatch.setattr(spot_watcher, "watch", refuse)
    assert main(["watch-spot"]) == 2
    assert capsys.readouterr().err == "stylebatch: no Ray cluster at auto answers\n"
