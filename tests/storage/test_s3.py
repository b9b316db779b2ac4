"""What a store on S3 adds: its price in requests, parts, checksums, content types, and the server's clock."""

import io
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from places import DATA, OPERATIONS
from s3server import S3Server
from s3stub import S3Stub, Time

from stylebatch.errors import NotFoundError, StorageUnavailableError
from stylebatch.objectstore import ObjectStore
from stylebatch.storage import S3Store, s3

MIB = 2**20


def requests_of(store: S3Store) -> list[str]:
    """The operations that this store asks its server for from now on, in order."""
    requests: list[str] = []
    store.client.meta.events.register("before-call.s3", lambda model, **_: requests.append(model.name))
    return requests


def sends_of(store: S3Store) -> list[str]:
    """The methods of everything that this store sends from now on, in order."""
    sends: list[str] = []
    store.client.meta.events.register("before-send.s3", lambda request, **_: sends.append(request.method))
    return sends


# The price


PRICES = {
    "get": ["GET"],
    "get_range": ["GET"],
    "size": ["HEAD"],
    "version": ["HEAD"],
    "age": ["HEAD"],
    "put": ["PUT"],
    "put_if_absent": ["PUT"],
    "list": ["GET", "GET"],
    "sweep": ["GET", "GET"],
    "delete": ["DELETE"],
}


def test_an_operation_costs_no_more_requests_than_it_must(s3_bucket: str) -> None:
    store = S3Store()
    store.put(f"{s3_bucket}/key", DATA)
    sends = sends_of(store)
    paid = {}
    for operation in PRICES:
        sends.clear()
        OPERATIONS[operation](store, f"{s3_bucket}/key")
        paid[operation] = [*sends]
    assert paid == PRICES


def test_a_replacement_costs_one_request(s3_bucket: str) -> None:
    store = S3Store()
    store.put(f"{s3_bucket}/key", DATA)
    version = store.version(f"{s3_bucket}/key")
    sends = sends_of(store)
    assert store.put_if_version(f"{s3_bucket}/key", b"x", version) is not None
    assert store.put_if_version(f"{s3_bucket}/key", b"y", version) is None
    assert sends == ["PUT", "PUT"]


# Large objects


@pytest.fixture
def store_of_parts(monkeypatch: pytest.MonkeyPatch, time: Time) -> S3Store:
    """A store that puts six megabytes in two parts."""
    monkeypatch.setattr(s3, "PART_SIZE", 5 * MIB)
    return S3Store(retries=time.retries(), multipart_threshold=6 * MIB)


def test_a_large_put_goes_in_parts(s3_bucket: str, store_of_parts: S3Store) -> None:
    requests = requests_of(store_of_parts)
    data = os.urandom(6 * MIB)
    store_of_parts.put(f"{s3_bucket}/large", data)
    assert sorted(requests) == [
        "CompleteMultipartUpload",
        "CreateMultipartUpload",
        "UploadPart",
        "UploadPart",
    ]
    assert store_of_parts.get(f"{s3_bucket}/large") == data


def test_an_upload_that_the_server_has_forgotten_is_looked_for(
    s3_bucket: str, store_of_parts: S3Store
) -> None:
    """Some servers answer NoSuchUpload to the second request for completion, whose first answer was lost."""
    data = os.urandom(6 * MIB)
    answer = Answers(store_of_parts, "CompleteMultipartUpload", "404 NoSuchUpload")
    with pytest.raises(NotFoundError):
        store_of_parts.put(f"{s3_bucket}/large", data)
    S3Store().put(f"{s3_bucket}/large", data)
    answer.faults = ["404 NoSuchUpload"]
    store_of_parts.put(f"{s3_bucket}/large", data)


def test_a_large_file_goes_in_parts_that_are_read_as_they_are_sent(
    s3_server: S3Server, s3_bucket: str, store_of_parts: S3Store, tmp_path: Path
) -> None:
    requests = requests_of(store_of_parts)
    path = tmp_path / "rows.parquet"
    path.write_bytes(os.urandom(12 * MIB))
    store_of_parts.put_file(f"{s3_bucket}/large.parquet", path)
    store_of_parts.copy(f"{s3_bucket}/large.parquet", f"{s3_bucket}/copy.parquet")
    assert Counter(requests) == {
        "CreateMultipartUpload": 1,
        "UploadPart": 3,
        "CompleteMultipartUpload": 1,
        "CopyObject": 1,
    }
    for key in ("large.parquet", "copy.parquet"):
        assert store_of_parts.get(f"{s3_bucket}/{key}") == path.read_bytes()
        head = s3_server.client.head_object(Bucket=s3_bucket.removeprefix("s3://"), Key=key)
        assert head["ContentType"] == "application/vnd.apache.parquet"


def test_a_file_s_upload_that_the_server_has_forgotten_is_looked_for(
    s3_bucket: str, store_of_parts: S3Store, tmp_path: Path
) -> None:
    path, uri = tmp_path / "large", f"{s3_bucket}/large"
    path.write_bytes(os.urandom(12 * MIB))
    answer = Answers(store_of_parts, "CompleteMultipartUpload")
    for stored in (b"", path.read_bytes() + b"x", path.read_bytes()[:-1], path.read_bytes()[:-1] + b"x"):
        if stored:
            S3Store().put(uri, stored)
        answer.faults = ["404 NoSuchUpload"]
        with pytest.raises(NotFoundError):
            store_of_parts.put_file(uri, path)
    S3Store().put(uri, path.read_bytes())
    answer.faults = ["404 NoSuchUpload"]
    store_of_parts.put_file(uri, path)


class Answers:
    """Answers the next requests for an operation in the server's place, one fault each."""

    def __init__(self, store: S3Store, operation: str, *faults: str) -> None:
        self.faults = [*faults]
        self.requests = 0
        store.client.meta.events.register(f"before-send.s3.{operation}", self._answer)

    def _answer(self, request: Any, **_event: Any) -> AWSResponse | None:
        self.requests += 1
        if not self.faults:
            return None
        status, _, code = self.faults.pop(0).partition(" ")
        body = f"<Error><Code>{code}</Code><Message>As it was told.</Message></Error>"
        headers: Any = {}
        return AWSResponse(request.url, int(status), headers, RawBody(body.encode()))


class RawBody(io.BytesIO):
    def stream(self, *_arguments: Any, **_options: Any) -> list[bytes]:
        return [self.read()]


# Checksums


def alter_bodies(store: S3Store, operation: str, count: int) -> list[bool]:
    """Flip a bit of the next few bodies on their way; what is returned notes each send as altered or not."""
    altered: list[bool] = []

    def alter(request: Any, **_event: Any) -> None:
        altered.append(len(altered) < count)
        if altered[-1]:
            body = request.body.read()
            request.body.seek(0)
            request.body = body[:-1] + bytes([body[-1] ^ 1])

    store.client.meta.events.register(f"before-send.s3.{operation}", alter)
    return altered


PUTS: dict[str, Callable[[ObjectStore, str], object]] = {
    "put": lambda store, uri: store.put(uri, DATA),
    "put_if_absent": lambda store, uri: store.put_if_absent(uri, DATA),
    "put_if_version": lambda store, uri: store.put_if_version(uri, DATA, store.version(uri)),
}


@pytest.mark.parametrize("operation", PUTS)
@pytest.mark.parametrize("calculation", [None, "when_required"])
def test_a_put_that_is_altered_on_its_way_is_refused_and_sent_again(
    monkeypatch: pytest.MonkeyPatch, s3_bucket: str, time: Time, operation: str, calculation: str | None
) -> None:
    if calculation:
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", calculation)
    if operation == "put_if_version":
        S3Store().put(f"{s3_bucket}/key", b"before")
    store = S3Store(retries=time.retries())
    sends = alter_bodies(store, "PutObject", count=2)
    PUTS[operation](store, f"{s3_bucket}/key")
    assert sends == [True, True, False]
    assert store.get(f"{s3_bucket}/key") == DATA


def test_a_put_that_is_always_altered_is_never_stored(s3_bucket: str, time: Time) -> None:
    store = S3Store(retries=time.retries())
    sends = alter_bodies(store, "PutObject", count=1000)
    with pytest.raises(StorageUnavailableError, match="BadDigest"):
        store.put(f"{s3_bucket}/key", DATA)
    assert len(sends) > 1
    assert [*store.list(s3_bucket)] == []


def test_a_part_that_is_altered_on_its_way_is_refused_and_sent_again(
    s3_bucket: str, store_of_parts: S3Store
) -> None:
    data = os.urandom(6 * MIB)
    sends = alter_bodies(store_of_parts, "UploadPart", count=1)
    store_of_parts.put(f"{s3_bucket}/large", data)
    assert len(sends) == 3
    assert store_of_parts.get(f"{s3_bucket}/large") == data


def test_over_tls_a_put_carries_its_checksum_in_a_header(
    monkeypatch: pytest.MonkeyPatch, stub: S3Stub
) -> None:
    """botocore's own would come after the body, in a form that many servers refuse."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://storage.example")
    store = S3Store()
    headers: dict[str, bytes | str] = {}

    def answer(request: Any, **_event: Any) -> AWSResponse:
        headers.update(request.headers)
        etag: Any = {"etag": '"0123"'}
        return AWSResponse(request.url, 200, etag, RawBody(b""))

    store.client.meta.events.register("before-send.s3.PutObject", answer)
    store.put("s3://bucket/key", b"123456789")
    assert headers["x-amz-checksum-crc32"] == b"y/Q5Jg=="  # CBF43926, the check value of CRC-32
    assert headers["Content-Length"] == "9"
    assert "Transfer-Encoding" not in headers


# Content types


TYPES = {
    "a.png": "image/png",
    "a.JPG": "image/jpeg",
    "a.b/c.jpeg": "image/jpeg",
    "a.json": "application/json",
    "a.parquet": "application/vnd.apache.parquet",
    "_SUCCESS": "application/octet-stream",
    "a.pngs/b": "application/octet-stream",
}


def test_an_object_gets_the_content_type_of_its_suffix(s3_server: S3Server, s3_bucket: str) -> None:
    store = S3Store()
    found = {}
    for name in TYPES:
        store.put(f"{s3_bucket}/{name}", DATA)
        head = s3_server.client.head_object(Bucket=s3_bucket.removeprefix("s3://"), Key=name)
        found[name] = head["ContentType"]
    assert found == TYPES


def test_an_object_put_in_parts_has_its_content_type(
    s3_server: S3Server, s3_bucket: str, store_of_parts: S3Store
) -> None:
    store_of_parts.put(f"{s3_bucket}/a.parquet", bytes(6 * MIB))
    head = s3_server.client.head_object(Bucket=s3_bucket.removeprefix("s3://"), Key="a.parquet")
    assert head["ContentType"] == "application/vnd.apache.parquet"


# Listing


def test_the_whole_bucket_can_be_listed_without_folder_markers(s3_bucket: str) -> None:
    store = S3Store()
    store.put(f"{s3_bucket}/a/x", b"x")
    store.client.put_object(Bucket=s3_bucket.removeprefix("s3://"), Key="empty/", Body=b"")
    assert [found.uri for found in store.list(s3_bucket)] == [f"{s3_bucket}/a/x"]


def test_a_long_listing_is_read_to_its_last_page(s3_bucket: str) -> None:
    store = S3Store()
    uris = [f"{s3_bucket}/many/{number:04}" for number in range(12)]
    for uri in uris:
        store.put(uri, b"")
    store.client.meta.events.register(
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 5}
    )
    assert [found.uri for found in store.list(f"{s3_bucket}/many")] == uris


# The server's clock


def shift_clock(store: S3Store, operation: str, date: str | None) -> None:
    """Have the answers to an operation carry this date, or none."""

    def shift(response_dict: dict[str, Any], **_event: Any) -> None:
        response_dict["headers"].pop("date", None)
        if date:
            response_dict["headers"]["date"] = date

    store.client.meta.events.register(f"before-parse.s3.{operation}", shift)


def test_an_age_is_told_by_the_server(s3_bucket: str) -> None:
    store = S3Store()
    store.put(f"{s3_bucket}/key", DATA)
    stored = store.client.head_object(Bucket=s3_bucket.removeprefix("s3://"), Key="key")["LastModified"]
    shift_clock(store, "HeadObject", "Fri, 01 Jan 2100 00:00:00 GMT")
    assert store.age(f"{s3_bucket}/key") == 4102444800 - stored.timestamp()


def test_a_server_that_tells_no_time_is_taken_to_have_this_machines(s3_bucket: str) -> None:
    store = S3Store()
    store.put(f"{s3_bucket}/key", DATA)
    shift_clock(store, "HeadObject", None)
    assert 0 <= store.age(f"{s3_bucket}/key") < 60


# Sweeping


FAR_FUTURE = "Fri, 01 Jan 2100 00:00:00 GMT"


@pytest.fixture
def left_behind(s3_server: S3Server, s3_bucket: str) -> tuple[S3Store, str]:
    """A bucket with unfinished uploads and probes, and a store whose server lives in 2100."""
    bucket = s3_bucket.removeprefix("s3://")
    for key in ("folder/large", "folder/below/large", "folderlarge"):
        s3_server.client.create_multipart_upload(Bucket=bucket, Key=key)
    for key in ("folder/.stylebatch-1.tmp", "folder/below/.stylebatch-2.tmp", "folder/.stylebatch-notes"):
        s3_server.client.put_object(Bucket=bucket, Key=key, Body=b"x")
    store = S3Store()
    for operation in ("ListMultipartUploads", "ListObjectsV2"):
        shift_clock(store, operation, FAR_FUTURE)
    return store, s3_bucket


def what_is_left(server: S3Server, bucket_uri: str) -> list[str]:
    bucket = bucket_uri.removeprefix("s3://")
    uploads = server.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    objects = server.client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return sorted(entry["Key"] for entry in [*uploads, *objects])


def test_a_sweep_removes_what_interrupted_puts_left_in_this_very_folder(
    s3_server: S3Server, left_behind: tuple[S3Store, str]
) -> None:
    store, bucket = left_behind
    store.sweep(f"{bucket}/folder", 3600)
    assert what_is_left(s3_server, bucket) == [
        "folder/.stylebatch-notes",
        "folder/below/.stylebatch-2.tmp",
        "folder/below/large",
        "folderlarge",
    ]


def test_a_sweep_leaves_what_may_still_be_under_way(
    s3_server: S3Server, left_behind: tuple[S3Store, str]
) -> None:
    _, bucket = left_behind
    S3Store().sweep(f"{bucket}/folder", 3600)
    assert len(what_is_left(s3_server, bucket)) == 6


@pytest.mark.parametrize("refusal", ["501 NotImplemented", "403 AccessDenied", "405 MethodNotAllowed", "400"])
def test_a_server_that_lists_no_uploads_is_swept_without(
    s3_server: S3Server, left_behind: tuple[S3Store, str], refusal: str
) -> None:
    store, bucket = left_behind
    answers = Answers(store, "ListMultipartUploads", refusal)
    store.sweep(f"{bucket}/folder", 3600)
    assert answers.requests == 1
    assert "folder/.stylebatch-1.tmp" not in what_is_left(s3_server, bucket)
