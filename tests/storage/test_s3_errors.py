"""What a user is told when S3 cannot be used: credentials, buckets, addresses; and never a secret."""

import os
import socket
from pathlib import Path

import pytest
from botocore.exceptions import SSLError
from places import OPERATIONS
from s3server import S3Server
from s3stub import S3Stub

from stylebatch.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    ConfigurationError,
    CredentialsError,
    NotFoundError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from stylebatch.storage import Retries, S3Store

ONCE = Retries(seconds=0)


@pytest.mark.parametrize("setting", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_stop_every_operation_and_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, s3_bucket: str, setting: str
) -> None:
    monkeypatch.setenv(setting, "something-wrong")
    store = S3Store()
    for operation in OPERATIONS.values():
        with pytest.raises(CredentialsError, match="check AWS_ACCESS_KEY_ID") as raised:
            operation(store, f"{s3_bucket}/key")
        assert raised.value.stops_job
        assert "something-wrong" not in str(raised.value)
        assert S3Server.secret_key not in str(raised.value)


@pytest.mark.parametrize("setting", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_missing_credentials_are_said(monkeypatch: pytest.MonkeyPatch, stub: S3Stub, setting: str) -> None:
    monkeypatch.delenv(setting)
    with pytest.raises(CredentialsError):
        S3Store().get("s3://bucket/key")
    assert stub.requests == []


def test_an_unknown_profile_is_a_matter_of_credentials(monkeypatch: pytest.MonkeyPatch, stub: S3Stub) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(CredentialsError, match="ProfileNotFound"):
        S3Store().get("s3://bucket/key")


def test_a_missing_bucket_is_named_by_every_operation(s3_bucket: str) -> None:
    store = S3Store()
    for operation in OPERATIONS.values():
        with pytest.raises(BucketNotFoundError, match="no bucket 'no-such-bucket'") as raised:
            operation(store, "s3://no-such-bucket/key")
        assert raised.value.stops_job


def test_in_a_missing_bucket_there_is_nothing_to_replace(s3_bucket: str) -> None:
    assert S3Store().put_if_version("s3://no-such-bucket/key", b"x", '"0123"') is None


def test_a_bucket_is_not_an_object(stub: S3Stub) -> None:
    with pytest.raises(NotFoundError, match="names a bucket"):
        S3Store().get("s3://bucket")


REFUSALS: dict[str, type[StorageError]] = {
    "503 SlowDown": StorageUnavailableError,
    "500 InternalError": StorageUnavailableError,
    "529": StorageUnavailableError,
    "403 AccessDenied": AccessDeniedError,
    "403 Unheard-of": AccessDeniedError,
    "400 ExpiredToken": CredentialsError,
    "403 RequestTimeTooSkewed": CredentialsError,
    "507 XMinioStorageFull": StorageFullError,
    "501 NotImplemented": ConfigurationError,
    "400 EntityTooLarge": StorageError,
}


def test_a_refusal_is_told_apart_by_its_code(stub: S3Stub) -> None:
    store = S3Store(retries=ONCE)
    for fault, expected in REFUSALS.items():
        stub.faults[:] = [fault]
        with pytest.raises(StorageError) as raised:
            store.put("s3://bucket/key", b"x")
        assert type(raised.value) is expected, fault
        assert str(raised.value).startswith("s3://bucket/key: ")
        assert fault.partition(" ")[2] in str(raised.value)


# Addresses


def test_an_endpoint_where_nobody_listens_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, stub: S3Stub
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:hidden@127.0.0.1:{port}")
        with pytest.raises(StorageUnavailableError, match="AWS_ENDPOINT_URL") as raised:
            S3Store(retries=ONCE).get("s3://bucket/key")
    assert f":{port}" in str(raised.value)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("AWS_ENDPOINT_URL", "localhost:8333"),
        ("AWS_ENDPOINT_URL", "http://"),
        ("AWS_ENDPOINT_URL", "http://host:port"),
        ("AWS_ENDPOINT_URL", "http://[::1"),
        ("AWS_ENDPOINT_URL", "ftp://host"),
        ("AWS_DEFAULT_REGION", "not a region"),
        ("AWS_CA_BUNDLE", " "),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "never"),
    ],
)
def test_a_setting_that_makes_no_sense_stops_the_job_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, stub: S3Stub, setting: str, value: str
) -> None:
    monkeypatch.setenv(setting, value)
    for operation in (OPERATIONS["get"], OPERATIONS["has_conditional_puts"]):
        with pytest.raises(
            ConfigurationError, match=r"; check AWS_ENDPOINT_URL \(https://host:port\)"
        ) as raised:
            operation(S3Store(), "s3://bucket/key")
        assert raised.value.stops_job
        assert "\n" not in str(raised.value)


def test_a_malformed_endpoint_does_not_show_its_password(
    monkeypatch: pytest.MonkeyPatch, stub: S3Stub
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hidden@host:port")
    with pytest.raises(ConfigurationError) as raised:
        S3Store().get("s3://bucket/key")
    assert "hidden" not in str(raised.value)


def test_an_unreadable_settings_file_is_said(
    monkeypatch: pytest.MonkeyPatch, stub: S3Stub, tmp_path: Path
) -> None:
    settings = tmp_path / "config"
    settings.write_text("[default\nregion")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    with pytest.raises(ConfigurationError, match="Unable to parse config file"):
        S3Store().get("s3://bucket/key")


def test_no_region_is_needed(monkeypatch: pytest.MonkeyPatch, stub: S3Stub) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    S3Store().put("s3://bucket/key", b"x")
    assert stub.objects == {"/bucket/key": b"x"}


def test_tls_to_a_server_that_has_none_is_not_tried_for_long(
    monkeypatch: pytest.MonkeyPatch, stub: S3Stub
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL"].replace("http:", "https:"))
    with pytest.raises(ConfigurationError, match="check AWS_ENDPOINT_URL"):
        S3Store().get("s3://bucket/key")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate", ConfigurationError),
        ("EOF occurred in violation of protocol", StorageUnavailableError),
    ],
)
def test_a_certificate_that_nobody_vouches_for_is_not_tried_again(
    stub: S3Stub, text: str, expected: type[StorageError]
) -> None:
    sends = []

    def fail(**_event: object) -> None:
        sends.append(1)
        if len(sends) < 3:
            raise SSLError(endpoint_url="https://host", error=OSError(text))

    store = S3Store(retries=Retries(sleep=lambda seconds: None))
    store.client.meta.events.register("before-send.s3.PutObject", fail)
    if expected is ConfigurationError:
        with pytest.raises(ConfigurationError, match="CERTIFICATE_VERIFY_FAILED"):
            store.put("s3://bucket/key", b"x")
    else:
        store.put("s3://bucket/key", b"x")
    assert len(sends) == (1 if expected is ConfigurationError else 3)


def test_another_endpoint_gets_the_bucket_in_the_path(monkeypatch: pytest.MonkeyPatch, stub: S3Stub) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.example:9000")
    url = S3Store().client.generate_presigned_url("get_object", Params={"Bucket": "pictures", "Key": "a"})
    assert url.startswith("http://storage.example:9000/pictures/a?")
