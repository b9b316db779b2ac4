"""The watcher: what it asks, when it tells Ray, and what it says. Ray itself is in test_machines.py."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from fakemetadata import NOTICE_PATH, TOKEN_PATH, FakeMetadata, running_metadata

from stylebatch.cluster import spot_watcher
from stylebatch.cluster.draining import choose_node, own_node
from stylebatch.cluster.spot_watcher import InstanceMetadata, SpotNotice, parse_notice, watch
from stylebatch.errors import ClusterError, MetadataError


@pytest.fixture
def service() -> Iterator[FakeMetadata]:
    with running_metadata() as metadata:
        yield metadata


class Ray:
    """Stands for the cluster's control service."""

    def __init__(self) -> None:
        self.drained: list[tuple[str, str, float, str]] = []
        self.refusals: list[Exception] = []
        self.node = "node-1"

    def own_node(self, address: str, node_id: str | None) -> str:
        if self.refusals:
            raise self.refusals.pop(0)
        return node_id or self.node

    def drain_node(self, address: str, node_id: str, seconds_left: float, message: str) -> None:
        self.drained.append((address, node_id, seconds_left, message))


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    double = Ray()
    monkeypatch.setattr(spot_watcher, "own_node", double.own_node)
    monkeypatch.setattr(spot_watcher, "drain_node", double.drain_node)
    monkeypatch.setattr(spot_watcher, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(spot_watcher, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(spot_watcher, "RETRY_SECONDS", 0.01)
    return double


class TestMetadata:
    def test_no_notice_then_one(self, service: FakeMetadata) -> None:
        metadata = InstanceMetadata(service.endpoint + "/")
        assert metadata.spot_notice() is None
        service.notice = b'{"action": "stop", "time": "2031-05-06T07:08:09Z"}'
        assert metadata.spot_notice() == SpotNotice("stop", datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC))
        assert service.requests == [
            ("PUT", TOKEN_PATH, 200),
            ("GET", NOTICE_PATH, 404),
            ("GET", NOTICE_PATH, 200),
        ]

    def test_a_token_that_has_expired_is_replaced(self, service: FakeMetadata) -> None:
        metadata = InstanceMetadata(service.endpoint)
        metadata.check()
        service.tokens += 1  # the first one is not valid any more
        with pytest.raises(MetadataError, match="401"):
            metadata.spot_notice()
        assert metadata.spot_notice() is None

    @pytest.mark.parametrize(
        "body", [b"", b"<html>", b"[]", b'{"action": "stop"}', b'{"action": "stop", "time": "soon"}', b"\xff"]
    )
    def test_what_is_no_notice_is_said(self, body: bytes) -> None:
        with pytest.raises(MetadataError, match="this is no spot notice"):
            parse_notice(body)

    def test_a_proxy_is_not_asked(self, service: FakeMetadata, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert InstanceMetadata(service.endpoint).spot_notice() is None

    def test_nobody_there(self) -> None:
        with pytest.raises(MetadataError, match=r"^PUT http://127\.0\.0\.1:9/latest/api/token: "):
            InstanceMetadata("http://127.0.0.1:9").check()


class TestWatch:
    def test_a_notice_reaches_ray_with_its_deadline(self, service: FakeMetadata, ray: Ray) -> None:
        said: list[str] = []
        announcer = threading.Timer(0.3, service.announce, [90])
        announcer.start()
        watch("head:6379", None, InstanceMetadata(service.endpoint), say=said.append)
        announcer.join()
        ((address, node, seconds_left, message),) = ray.drained
        assert (address, node, message) == ("head:6379", "node-1", "stylebatch: spot notice to terminate")
        assert 85 < seconds_left <= 90
        assert said[0] == "watching over machine node-1 for a spot notice or SIGTERM"
        assert said[1].startswith("spot notice to terminate: ")
        assert service.requests.count(("GET", NOTICE_PATH, 404)) >= 2

    def test_sigterm_reaches_ray_at_once(self, ray: Ray) -> None:
        before = signal.getsignal(signal.SIGTERM)
        end = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM])
        end.start()
        watch("auto", "node-7", metadata=None, grace=20)
        end.join()
        ((address, node, seconds_left, message),) = ray.drained
        assert (address, node, message) == ("auto", "node-7", "stylebatch: SIGTERM")
        assert 19 < seconds_left <= 20
        assert signal.getsignal(signal.SIGTERM) is before

    def test_ctrl_c_ends_the_watch_alone(self, service: FakeMetadata, ray: Ray) -> None:
        end = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
        end.start()
        watch("auto", None, InstanceMetadata(service.endpoint))
        end.join()
        assert not ray.drained

    def test_a_service_that_fails_for_a_while_is_said_once(self, service: FakeMetadata, ray: Ray) -> None:
        said: list[str] = []

        def mend() -> None:
            service.is_broken = False
            service.announce(60)

        def breaks() -> None:
            service.is_broken = True

        timers = [threading.Timer(0.2, breaks), threading.Timer(0.6, mend)]
        for timer in timers:
            timer.start()
        watch("auto", None, InstanceMetadata(service.endpoint), say=said.append)
        assert len(ray.drained) == 1
        (complaint,) = [line for line in said if "500" in line]
        assert complaint.startswith("is there a notice? GET http://127.0.0.1:")
        assert [status for _, _, status in service.requests].count(500) >= 2

    def test_without_a_service_nobody_watches(self, ray: Ray) -> None:
        with pytest.raises(MetadataError):
            watch("auto", None, InstanceMetadata("http://127.0.0.1:9"))

    def test_ray_is_told_again_until_it_hears(self, service: FakeMetadata, ray: Ray) -> None:
        service.announce(60)
        metadata = InstanceMetadata(service.endpoint)
        watch("auto", None, metadata, say=lambda line: ray.refusals.extend([ClusterError("away")] * 2))
        assert len(ray.drained) == 1

    def test_not_for_ever(self, service: FakeMetadata, ray: Ray) -> None:
        service.announce(1)
        metadata, started = InstanceMetadata(service.endpoint), time.monotonic()
        with pytest.raises(ClusterError, match="away"):
            watch("auto", None, metadata, say=lambda line: ray.refusals.extend([ClusterError("away")] * 500))
        assert time.monotonic() - started < 10
        assert not ray.drained


NODES = {"aa": "10.0.0.1", "bb": "10.0.0.2", "cc": "10.0.0.2"}


class TestWhichMachine:
    def test_the_one_with_this_address(self) -> None:
        assert choose_node(NODES, "10.0.0.1", None) == "aa"

    def test_the_one_that_is_named(self) -> None:
        assert choose_node(NODES, "10.0.0.1", "cc") == "cc"

    @pytest.mark.parametrize(("address", "number"), [("10.0.0.2", 2), ("10.9.9.9", 0)])
    def test_else_the_user_must_say(self, address: str, number: int) -> None:
        with pytest.raises(ClusterError, match=rf"^{number} of the cluster's 3 machines have the address"):
            choose_node(NODES, address, None)

    def test_one_that_is_not_there(self) -> None:
        with pytest.raises(
            ClusterError, match=r"no machine of the cluster has the id dd; .* aa \(10\.0\.0\.1\)"
        ):
            choose_node(NODES, "10.0.0.1", "dd")

    def test_no_cluster(self) -> None:
        with pytest.raises(ClusterError, match=r"^no Ray cluster at nonsense answers: "):
            own_node("nonsense")
