"""S3 servers without conditional puts: found out by trying, and used without."""

import pickle

import pytest
from s3stub import S3Stub, Time

from stylebatch.errors import AccessDeniedError, StorageFullError, StorageUnavailableError
from stylebatch.storage import S3Store


def drop_header(store: S3Store, header: str) -> None:
    """Have the server never see a header, which is to it as if it did not know it."""
    store.client.meta.events.register(
        "before-call.s3.PutObject", lambda params, **_: params["headers"].pop(header, None) and None
    )


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_server_that_ignores_a_condition_is_found_out(s3_bucket: str, header: str) -> None:
    store = S3Store()
    drop_header(store, header)
    assert store.has_conditional_puts(f"{s3_bucket}/folder") is False
    listing = S3Store().client.list_objects_v2(Bucket=s3_bucket.removeprefix("s3://"))
    assert listing["KeyCount"] == 0


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ("kept", True),
        ("ignored", False),
        ("501 NotImplemented", False),
        ("501", False),
        ("400 NotImplemented", False),
        ("412 PreconditionFailed", False),
    ],
)
def test_what_becomes_of_conditions_is_found_out(
    stub: S3Stub, time: Time, conditions: str, expected: bool
) -> None:
    stub.conditions = conditions
    assert S3Store(retries=time.retries()).has_conditional_puts("s3://bucket/folder") is expected
    assert stub.objects == {}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("403 AccessDenied", AccessDeniedError),
        ("507 XMinioStorageFull", StorageFullError),
        ("503 SlowDown", StorageUnavailableError),
    ],
)
def test_a_failure_is_not_taken_for_a_missing_feature(
    stub: S3Stub, time: Time, fault: str, expected: type[Exception]
) -> None:
    stub.fault_for = lambda request: fault
    with pytest.raises(expected):
        S3Store(retries=time.retries()).has_conditional_puts("s3://bucket/folder")


def test_without_conditional_puts_a_put_looks_first(stub: S3Stub) -> None:
    stub.conditions = "501 NotImplemented"
    store = S3Store().unconditional()
    assert store.put_if_absent("s3://bucket/key", b"first") is True
    assert store.put_if_absent("s3://bucket/key", b"second") is False
    version = store.version("s3://bucket/key")
    assert store.put_if_version("s3://bucket/key", b"third", '"another"') is None
    assert store.put_if_version("s3://bucket/key", b"fourth", version) == store.version("s3://bucket/key")
    sends = " ".join(request.partition(" ")[0] for request in stub.requests)
    assert sends == "HEAD PUT HEAD HEAD HEAD HEAD PUT HEAD"


def test_an_unconditional_store_shares_its_client_and_stays_one_where_it_travels(stub: S3Stub) -> None:
    store = S3Store()
    assert store.unconditional().client is store.client
    stub.conditions = "501 NotImplemented"
    travelled = pickle.loads(pickle.dumps(store.unconditional()))
    assert travelled.put_if_absent("s3://bucket/key", b"first") is True
