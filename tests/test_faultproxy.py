"""The fault-injecting proxy before a real S3 server: nothing is altered, and faults are what they say."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from faultproxy import FAULTS_BY_METHOD, FaultProxy, running_proxy
from faulttraffic import Fault, key_class
from s3server import S3Server

BUCKET = "behind-the-proxy"


@pytest.fixture
def make_client(s3_server: S3Server) -> Iterator[Callable[..., Any]]:
    """``make_client(proxy, attempts=1)``: a boto3 client that talks to the proxy."""
    clients = []

    def make(proxy: FaultProxy, attempts: int = 1) -> Any:
        retries = {"mode": "standard", "total_max_attempts": attempts}
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=proxy.endpoint,
            aws_access_key_id=s3_server.access_key,
            aws_secret_access_key=s3_server.secret_key,
            region_name="us-east-1",
            config=Config(retries=retries, connect_timeout=2, read_timeout=10),
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[str]:
    s3_server.client.create_bucket(Bucket=BUCKET)
    yield BUCKET
    s3_server.client.delete_bucket(Bucket=BUCKET)


def always(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, method: str, fault: Fault) -> None:
    """Every request of this method meets this fault, others none."""
    monkeypatch.setattr(proxy, "choose_fault", lambda asked: fault if asked == method else None)


@pytest.mark.parametrize(
    ("method", "target", "kind"),
    [
        ("GET", "/b/out-1/job.json", "job.json"),
        ("PUT", "/b/out-1/lease.json", "lease"),
        ("PUT", "/b/out-1/progress.json", "progress"),
        ("PUT", "/b/out-1/records/000000/a%20b.0123.json?x-id=PutObject", "records"),
        ("PUT", "/b/out-1/images/000000/images.png", "images"),
        ("GET", "/b/out-1/results/part-000000.parquet", "parts"),
        ("PUT", "/b/out-1/checkpoints/000000/a.ckpt", "checkpoints"),
        ("GET", "/b?list-type=2&prefix=out-1%2Frecords%2F", "list"),
        ("PUT", "/b", "other"),
        ("GET", "/b/in/content-1.png", "other"),
    ],
)
def test_requests_by_what_they_are_about(method: str, target: str, kind: str) -> None:
    assert key_class(method, target) == kind


def test_nothing_is_altered_or_lost_on_the_way(
    s3_server: S3Server, bucket: str, make_client: Callable[..., Any]
) -> None:
    data = random.Random(1).randbytes(3_000_000)
    with running_proxy(s3_server.endpoint, share=0, seed=1) as proxy:
        client = make_client(proxy)
        for key, body in {"large": data, "empty": b"", "a name/with ü + more": b"x"}.items():
            client.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
            assert s3_server.client.get_object(Bucket=bucket, Key=key)["Body"].read() == body
            assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == body
            assert client.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(body)
        part = client.get_object(Bucket=bucket, Key="large", Range="bytes=5-14")["Body"].read()
        assert part == data[5:15]
        keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]]
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(Bucket=bucket, Key="empty", Body=b"", IfNoneMatch="*")
        with pytest.raises(ClientError, match="NoSuchKey"):
            client.get_object(Bucket=bucket, Key="missing")
        for key in keys:
            client.delete_object(Bucket=bucket, Key=key)

        assert sorted(keys) == ["a name/with ü + more", "empty", "large"]
        assert not proxy.traffic.faults
        counted = {("PUT", "other"): 4, ("GET", "other"): 5, ("HEAD", "other"): 3}
        assert proxy.traffic.requests == {**counted, ("GET", "list"): 1, ("DELETE", "other"): 3}


@pytest.mark.parametrize(
    ("method", "fault"), [(method, fault) for method, faults in FAULTS_BY_METHOD.items() for fault in faults]
)
def test_every_fault_shows_once_and_does_what_it_says(
    s3_server: S3Server,
    bucket: str,
    make_client: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    fault: Fault,
) -> None:
    calls: dict[str, Callable[[Any], Any]] = {
        "GET": lambda client: client.get_object(Bucket=bucket, Key="one")["Body"].read(),
        "PUT": lambda client: client.put_object(Bucket=bucket, Key="two", Body=b"2"),
        "POST": lambda client: client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "one"}]}),
        "DELETE": lambda client: client.delete_object(Bucket=bucket, Key="one"),
    }
    changed = {"GET": {"one"}, "PUT": {"one", "two"}, "POST": set(), "DELETE": set()}
    s3_server.client.put_object(Bucket=bucket, Key="one", Body=b"11")
    with running_proxy(s3_server.endpoint, share=1, seed=1) as proxy:
        always(proxy, monkeypatch, method, fault)
        with pytest.raises((BotoCoreError, ClientError)) as caught:
            calls[method](make_client(proxy))

        assert ("SlowDown" in str(caught.value)) == (fault is Fault.SLOW_DOWN)
        assert proxy.traffic.faults == {fault: 1}
    stored = {entry["Key"] for entry in s3_server.client.list_objects_v2(Bucket=bucket).get("Contents", [])}
    assert stored == (changed[method] if fault is Fault.LOST else {"one"})
    for key in ("one", "two"):
        s3_server.client.delete_object(Bucket=bucket, Key=key)


def test_retries_get_through_a_tenth_of_faults(
    s3_server: S3Server, bucket: str, make_client: Callable[..., Any]
) -> None:
    with running_proxy(s3_server.endpoint, share=0.1, seed=5) as proxy:
        client = make_client(proxy, attempts=6)
        for number in range(40):
            key, body = f"out/images/000000/{number}.png", bytes([number]) * 1000
            client.put_object(Bucket=bucket, Key=key, Body=body)
            assert client.head_object(Bucket=bucket, Key=key)["ContentLength"] == 1000
        proxy.share = 0
        traffic = proxy.traffic
        for number in range(40):
            client.delete_object(Bucket=bucket, Key=f"out/images/000000/{number}.png")

    total, faults = traffic.requests.total() - 40, traffic.faults.total()
    assert 0.03 < faults / total < 0.25
    assert total == 80 + faults
    assert traffic.committed("out") == {str(number) for number in range(40)}
    assert traffic.committed("elsewhere") == set()


def test_a_seed_gives_the_same_faults_in_their_share(s3_server: S3Server) -> None:
    first, second, other = (FaultProxy(s3_server.endpoint, share=0.2, seed=seed) for seed in (1, 1, 2))
    methods = ["GET", "PUT", "DELETE", "HEAD"] * 1000
    chosen = [first.choose_fault(method) for method in methods]

    assert [second.choose_fault(method) for method in methods] == chosen
    assert [other.choose_fault(method) for method in methods] != chosen
    assert sum(fault is not None for fault in chosen) == pytest.approx(800, rel=0.15)
    assert {fault for fault in chosen if fault} == {*Fault}


def test_what_was_read_whole(s3_server: S3Server, bucket: str, make_client: Callable[..., Any]) -> None:
    reads = {
        "asked whole": None,
        "asked for more": "bytes=0-999",
        "beginning": "bytes=0-5",
        "end": "bytes=5-9",
    }
    with running_proxy(s3_server.endpoint, share=0, seed=1) as proxy:
        client = make_client(proxy)
        for key, wanted in reads.items():
            client.put_object(Bucket=bucket, Key=key, Body=b"0123456789")
            client.get_object(Bucket=bucket, Key=key, **({"Range": wanted} if wanted else {}))["Body"].read()
            client.delete_object(Bucket=bucket, Key=key)

        assert proxy.traffic.fetched == {"asked whole", "asked for more"}
        proxy.traffic.forget_fetched()
        assert proxy.traffic.fetched == set()


def test_a_record_that_is_sent_again_is_one_computation(
    s3_server: S3Server, bucket: str, make_client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_proxy(s3_server.endpoint, share=0, seed=1) as proxy:
        client = make_client(proxy)
        again = b'{"seconds": 1}'
        pair = "out/records/000000/pair.1"
        puts = [(pair, again), (pair, again), (pair, b'{"seconds": 2}'), (f"{pair}x", b"another image")]
        puts += [("out/records/000001/other", b"{}"), ("out/records/000001/third.failed", b"{}")]
        puts = [(f"{name}.json" if "." in name else f"{name}.2.json", body) for name, body in puts]
        for key, body in puts:
            client.put_object(Bucket=bucket, Key=key, Body=body)
        always(proxy, monkeypatch, "PUT", Fault.RESET)
        with pytest.raises(BotoCoreError):
            client.put_object(Bucket=bucket, Key=f"{pair}.json", Body=b"never arrives")
        always(proxy, monkeypatch, "PUT", Fault.LOST)
        with pytest.raises(BotoCoreError):
            client.put_object(Bucket=bucket, Key="out/records/000001/other.3.json", Body=b"arrives")
        for key in {key for key, _ in puts} | {"out/records/000001/other.3.json"}:
            client.delete_object(Bucket=bucket, Key=key)

        assert proxy.traffic.computations("out") == {"pair": 3, "other": 2}
        assert proxy.traffic.computations("elsewhere") == {}
