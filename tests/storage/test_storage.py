"""What every store promises, on a local folder and on a real S3 server, and what each adds."""

import errno
import io
import os
import pickle
import socket
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ResponseStreamingError
from botocore.response import StreamingBody
from s3server import S3Server

from stylebatch.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CredentialsError,
    NotFoundError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from stylebatch.objectstore import ObjectStore
from stylebatch.storage import LocalStore, S3Store, UriStore
from stylebatch.storage import s3 as storage

DATA = bytes(range(256)) * 8

OPERATIONS: dict[str, Callable[[ObjectStore, str], object]] = {
    "get": lambda store, uri: store.get(uri),
    "get_range": lambda store, uri: store.get_range(uri, 0, 1),
    "size": lambda store, uri: store.size(uri),
    "put": lambda store, uri: store.put(uri, b"x"),
    "put_if_absent": lambda store, uri: store.put_if_absent(uri, b"x"),
    "delete": lambda store, uri: store.delete(uri),
    "list": lambda store, uri: [*store.list(uri)],
}
READS = ("get", "get_range", "size")


@dataclass(frozen=True)
class Place:
    """A store and an empty folder in it."""

    store: ObjectStore
    folder: str

    def names(self, folder: str) -> list[str]:
        """What a listing finds below a folder, by its name below the place's own."""
        listed = self.store.list(f"{self.folder}/{folder}")
        return [found.uri.removeprefix(f"{self.folder}/") for found in listed]


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return Place(LocalStore(), str(tmp_path))
    return Place(S3Store(), request.getfixturevalue("s3_bucket") + "/some/folder")


@pytest.fixture
def uri(place: Place) -> str:
    return f"{place.folder}/images/000042/cät 1.png"


# Every store


@pytest.mark.parametrize("data", [DATA, b""], ids=["bytes", "empty"])
def test_what_was_put_comes_back(place: Place, uri: str, data: bytes) -> None:
    place.store.put(uri, data)
    assert place.store.get(uri) == data
    assert place.store.size(uri) == len(data)


def test_put_replaces_what_was_there(place: Place, uri: str) -> None:
    place.store.put(uri, DATA)
    place.store.put(uri, b"new")
    assert place.store.get(uri) == b"new"


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (100, 50, DATA[100:150]),
        (len(DATA) - 10, 50, DATA[-10:]),
        (len(DATA), 50, b""),
        (len(DATA) + 10, 50, b""),
        (100, 0, b""),
    ],
    ids=["middle", "over the end", "at the end", "beyond the end", "nothing"],
)
def test_a_range_is_cut_at_the_end(place: Place, uri: str, start: int, length: int, expected: bytes) -> None:
    place.store.put(uri, DATA)
    assert place.store.get_range(uri, start, length) == expected


def test_put_if_absent_keeps_the_first(place: Place, uri: str) -> None:
    assert place.store.put_if_absent(uri, b"first") is True
    assert place.store.put_if_absent(uri, b"second") is False
    assert place.store.get(uri) == b"first"


def test_exactly_one_of_eight_racing_puts_is_let_through(place: Place, uri: str) -> None:
    start = threading.Barrier(8)

    def attempt(writer: int) -> bool:
        start.wait()
        return place.store.put_if_absent(uri, b"writer %d" % writer)

    with ThreadPoolExecutor(8) as threads:
        stored = [*threads.map(attempt, range(8))]

    assert stored.count(True) == 1
    assert place.store.get(uri) == b"writer %d" % stored.index(True)


def test_list_goes_to_any_depth_in_order_of_uri(place: Place) -> None:
    names = ["a/b-1", "a/b.txt", "a/b/10", "a/b/2", "a/b/c/d/e", "a/é"]
    for name in reversed(names):
        place.store.put(f"{place.folder}/{name}", name.encode())
    assert place.names("a") == names
    assert [found.size for found in place.store.list(place.folder)] == [len(name.encode()) for name in names]


def test_list_leaves_out_siblings_whose_names_begin_alike(place: Place) -> None:
    for name in ["a/b/x", "a/bc/x", "a/b.txt"]:
        place.store.put(f"{place.folder}/{name}", b"x")
    assert place.names("a/b") == ["a/b/x"]


def test_list_of_one_object_finds_it_alone(place: Place) -> None:
    for name in ["a/b", "a/bc"]:
        place.store.put(f"{place.folder}/{name}", b"x")
    assert place.names("a/b") == ["a/b"]
    assert place.names("a/b/c") == []


def test_list_of_nothing_is_empty(place: Place) -> None:
    assert place.names("nowhere") == []


def test_delete_twice_is_no_error(place: Place, uri: str) -> None:
    place.store.put(uri, DATA)
    place.store.delete(uri)
    assert [*place.store.list(place.folder)] == []
    place.store.delete(uri)


@pytest.mark.parametrize("operation", READS)
def test_what_is_missing_is_not_found_and_named(place: Place, uri: str, operation: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        OPERATIONS[operation](place.store, uri)
    assert uri in str(raised.value)
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize("operation", READS)
def test_a_folder_is_not_an_object(place: Place, uri: str, operation: str) -> None:
    place.store.put(uri, DATA)
    with pytest.raises(NotFoundError):
        OPERATIONS[operation](place.store, place.folder)


def test_a_pickled_store_reads_the_same_objects(place: Place, uri: str) -> None:
    place.store.put(uri, DATA)  # so that an S3 store has its client, which must stay behind
    assert pickle.loads(pickle.dumps(place.store)).get(uri) == DATA


# LocalStore


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "images" / "picture.png"


@pytest.mark.parametrize(
    ("operation", "step"),
    [("put", "fsync"), ("put", "replace"), ("put_if_absent", "fsync"), ("put_if_absent", "link")],
)
def test_a_full_disk_leaves_nothing_and_stops_the_job(
    monkeypatch: pytest.MonkeyPatch, file: Path, operation: str, step: str
) -> None:
    file.parent.mkdir()
    monkeypatch.setattr(os, step, _raise(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(StorageFullError, match=r"picture\.png: no space left on device"):
        OPERATIONS[operation](LocalStore(), str(file))
    assert [*file.parent.iterdir()] == []


def _raise(error: Exception) -> Callable[..., NoReturn]:
    def raising(*_arguments: object, **_options: object) -> NoReturn:
        raise error

    return raising


def test_a_failed_put_keeps_what_was_there(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    LocalStore().put(str(file), b"before")
    monkeypatch.setattr(os, "replace", _raise(OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(StorageError):
        LocalStore().put(str(file), b"after")
    assert file.read_bytes() == b"before"


@pytest.mark.parametrize("operation", ["put", "put_if_absent"])
def test_a_put_leaves_only_its_file_with_the_usual_permissions(file: Path, operation: str) -> None:
    mask = os.umask(0o022)
    try:
        OPERATIONS[operation](LocalStore(), str(file))
    finally:
        os.umask(mask)
    assert [*file.parent.iterdir()] == [file]
    assert stat.filemode(file.stat().st_mode) == "-rw-r--r--"


def test_the_bytes_are_on_the_disk_before_the_name(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.parent.mkdir()
    steps: list[str] = []

    def recorded(step: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            is_folder = step == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
            steps.append(f"{step} folder" if is_folder else step)
            return real(*arguments)

        return call

    for step in ("fsync", "replace"):
        monkeypatch.setattr(os, step, recorded(step, getattr(os, step)))
    LocalStore().put(str(file), DATA)
    assert steps == ["fsync", "replace", "fsync folder"]


def test_list_leaves_out_files_that_are_being_written(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    seen: list[list[str]] = []
    replace = os.replace

    def look_then_replace(*arguments: Any) -> None:
        assert len([*file.parent.iterdir()]) == 1
        seen.append([found.uri for found in LocalStore().list(str(file.parent))])
        replace(*arguments)

    monkeypatch.setattr(os, "replace", look_then_replace)
    LocalStore().put(str(file), DATA)
    assert seen == [[]]


@pytest.mark.parametrize("operation", ["put", "put_if_absent"])
@pytest.mark.parametrize("below", ["name", "folder/name"])
def test_a_put_below_a_file_is_refused(tmp_path: Path, operation: str, below: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotFoundError, match="not a directory"):
        OPERATIONS[operation](LocalStore(), f"{tmp_path}/file/{below}")
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


@pytest.mark.parametrize("operation", ["put", "put_if_absent", "delete"])
def test_a_folder_is_neither_replaced_nor_deleted(tmp_path: Path, operation: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotFoundError, match="is a directory"):
        OPERATIONS[operation](LocalStore(), f"{tmp_path}/folder")
    assert [*tmp_path.iterdir()] == [tmp_path / "folder"]


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFoundError, match="not a regular file"):
        LocalStore().get(f"{tmp_path}/pipe")
    assert [*LocalStore().list(str(tmp_path))] == []


def test_a_file_system_without_hard_links_is_said(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setattr(os, "link", _raise(PermissionError(errno.EPERM, os.strerror(errno.EPERM))))
    with pytest.raises(StorageError, match="no hard links"):
        LocalStore().put_if_absent(str(file), DATA)


def test_a_refused_file_is_access_denied(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    LocalStore().put(str(file), DATA)  # the tests may run as root, whom no file refuses
    monkeypatch.setattr(io, "open", _raise(PermissionError(errno.EACCES, os.strerror(errno.EACCES))))
    with pytest.raises(AccessDeniedError, match="permission denied"):
        LocalStore().get(str(file))


# S3Store


def test_a_large_put_goes_in_parts(monkeypatch: pytest.MonkeyPatch, s3_bucket: str) -> None:
    monkeypatch.setattr(storage, "PART_SIZE", 5 * 2**20)
    store = S3Store(multipart_threshold=6 * 2**20)
    requests: list[str] = []
    store.client.meta.events.register("before-call.s3", lambda model, **_: requests.append(model.name))
    data = os.urandom(6 * 2**20)

    store.put(f"{s3_bucket}/large", data)

    assert sorted(requests) == [
        "CompleteMultipartUpload",
        "CreateMultipartUpload",
        "UploadPart",
        "UploadPart",
    ]
    assert store.get(f"{s3_bucket}/large") == data


@pytest.mark.parametrize("setting", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_stop_every_operation_and_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, s3_bucket: str, setting: str
) -> None:
    monkeypatch.setenv(setting, "something-wrong")
    store = S3Store()
    for operation in OPERATIONS.values():
        with pytest.raises(CredentialsError, match="check AWS_ACCESS_KEY_ID") as raised:
            operation(store, f"{s3_bucket}/key")
        assert "something-wrong" not in str(raised.value)
        assert S3Server.secret_key not in str(raised.value)


@pytest.mark.parametrize("setting", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_missing_credentials_are_said(monkeypatch: pytest.MonkeyPatch, s3_bucket: str, setting: str) -> None:
    monkeypatch.delenv(setting)
    with pytest.raises(CredentialsError):
        S3Store().get(f"{s3_bucket}/key")


def test_an_unknown_profile_is_a_matter_of_credentials(
    monkeypatch: pytest.MonkeyPatch, s3_bucket: str
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(CredentialsError, match="ProfileNotFound"):
        S3Store().get(f"{s3_bucket}/key")


def test_a_missing_bucket_is_named_by_every_operation(s3_bucket: str) -> None:
    store = S3Store()
    for operation in OPERATIONS.values():
        with pytest.raises(BucketNotFoundError, match="no bucket 'no-such-bucket'"):
            operation(store, "s3://no-such-bucket/key")


def test_a_bucket_is_not_an_object(s3_bucket: str) -> None:
    with pytest.raises(NotFoundError, match="names a bucket"):
        S3Store().get(s3_bucket)


def test_the_whole_bucket_can_be_listed_without_folder_markers(s3_server: S3Server, s3_bucket: str) -> None:
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


def test_an_endpoint_where_nobody_listens_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, s3_bucket: str
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:hidden@127.0.0.1:{port}")
        with pytest.raises(StorageUnavailableError, match="AWS_ENDPOINT_URL") as raised:
            S3Store(max_attempts=1).get(f"{s3_bucket}/key")
    assert f":{port}" in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_an_endpoint_that_is_no_url_is_said(monkeypatch: pytest.MonkeyPatch, s3_bucket: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:8333")
    with pytest.raises(StorageError, match="Invalid endpoint: localhost:8333; check AWS_ENDPOINT_URL"):
        S3Store().get(f"{s3_bucket}/key")


def test_another_endpoint_gets_the_bucket_in_the_path(
    monkeypatch: pytest.MonkeyPatch, s3_bucket: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.example:9000")
    url = S3Store().client.generate_presigned_url("get_object", Params={"Bucket": "pictures", "Key": "a"})
    assert url.startswith("http://storage.example:9000/pictures/a?")


class Script:
    """Answers PUTs in the server's place: one status after the other, then lets them through."""

    def __init__(self, store: S3Store, *statuses: int, code: str = "Scripted") -> None:
        self.statuses = [*statuses]
        self.code = code
        self.requests = 0
        store.client.meta.events.register("before-send.s3.PutObject", self.answer)

    def answer(self, request: Any, **_options: Any) -> AWSResponse | None:
        self.requests += 1
        if not self.statuses:
            return None
        body = f"<Error><Code>{self.code}</Code><Message>As the script says.</Message></Error>"
        return AWSResponse(request.url, self.statuses.pop(0), {}, RawBody(body.encode()))


class RawBody(io.BytesIO):
    def stream(self, *_arguments: Any, **_options: Any) -> list[bytes]:
        return [self.read()]


def test_a_conditional_put_waits_for_another_one_to_end(s3_bucket: str) -> None:
    store = S3Store()
    script = Script(store, 409, 409, code="ConditionalRequestConflict")
    assert store.put_if_absent(f"{s3_bucket}/key", DATA) is True
    assert script.requests == 3


def test_a_conditional_put_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, s3_bucket: str) -> None:
    monkeypatch.setattr(storage, "_pause", lambda attempt: None)
    store = S3Store()
    script = Script(store, *[409] * 100, code="ConditionalRequestConflict")
    with pytest.raises(StorageUnavailableError, match="another writer"):
        store.put_if_absent(f"{s3_bucket}/key", DATA)
    assert script.requests == storage.CONFLICT_ATTEMPTS


def test_a_busy_server_is_asked_again(s3_bucket: str) -> None:
    store = S3Store()
    script = Script(store, 503, code="SlowDown")
    store.put(f"{s3_bucket}/key", DATA)
    assert script.requests == 2


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (503, "SlowDown", StorageUnavailableError),
        (500, "InternalError", StorageUnavailableError),
        (403, "AccessDenied", AccessDeniedError),
        (403, "Unheard-of", AccessDeniedError),
        (400, "ExpiredToken", CredentialsError),
        (403, "RequestTimeTooSkewed", CredentialsError),
        (507, "XMinioStorageFull", StorageFullError),
        (501, "NotImplemented", StorageError),
        (400, "EntityTooLarge", StorageError),
    ],
)
def test_a_refusal_is_told_apart_by_its_code(
    s3_bucket: str, status: int, code: str, expected: type[StorageError]
) -> None:
    store = S3Store(max_attempts=1)
    Script(store, status, code=code)
    with pytest.raises(StorageError) as raised:
        store.put(f"{s3_bucket}/key", DATA)
    assert type(raised.value) is expected
    assert f"{s3_bucket}/key: " in str(raised.value)
    assert code in str(raised.value)


@pytest.fixture
def breaking_bodies(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Errors that the next bodies break off with."""
    errors: list[Exception] = []
    read = StreamingBody.read

    def read_or_break(body: StreamingBody, amt: int | None = None) -> bytes:
        if errors:
            raise errors.pop(0)
        return read(body, amt)

    monkeypatch.setattr(StreamingBody, "read", read_or_break)
    return errors


def test_a_body_that_breaks_off_is_read_again(s3_bucket: str, breaking_bodies: list[Exception]) -> None:
    store = S3Store()
    store.put(f"{s3_bucket}/key", DATA)
    breaking_bodies += [ResponseStreamingError(error="reset")] * 2
    assert store.get_range(f"{s3_bucket}/key", 10, 20) == DATA[10:30]


def test_a_body_that_always_breaks_off_is_unavailable(
    s3_bucket: str, breaking_bodies: list[Exception]
) -> None:
    store = S3Store(max_attempts=2)
    store.put(f"{s3_bucket}/key", DATA)
    breaking_bodies += [ResponseStreamingError(error="reset")] * 5
    with pytest.raises(StorageUnavailableError):
        store.get(f"{s3_bucket}/key")
    assert len(breaking_bodies) == 3


# UriStore


def test_one_store_serves_both_kinds_of_uri(s3_bucket: str, tmp_path: Path) -> None:
    store = pickle.loads(pickle.dumps(UriStore()))
    for folder in (s3_bucket, str(tmp_path)):
        uri = f"{folder}/a"
        store.put(uri, DATA)
        assert store.put_if_absent(uri, b"") is False
        assert store.get_range(uri, 1, 2) == DATA[1:3]
        assert store.size(uri) == len(DATA)
        assert [found.uri for found in store.list(folder)] == [uri]
        assert store.get(uri) == DATA
        store.delete(uri)
    assert [*tmp_path.iterdir()] == []
    assert [*S3Store().list(s3_bucket)] == []
