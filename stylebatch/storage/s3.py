"""Objects on S3-compatible storage. boto3 takes a third of a second to import: only calls import it."""

import io
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

from stylebatch.errors import NotFoundError, StorageError, StorageUnavailableError
from stylebatch.objectstore import S3_SCHEME, StoredObject
from stylebatch.storage.s3_errors import one_line, s3_errors, status_of

MAX_ATTEMPTS = 6
"""Times that one S3 request is sent, the first included; botocore backs off up to 20 s between them."""
CONFLICT_ATTEMPTS = 6
"""Times that a conditional put is sent while another one for the same key is under way."""
CONNECT_TIMEOUT = 10
"""Seconds to wait for a connection to S3."""
READ_TIMEOUT = 60
"""Seconds of silence after which an S3 connection is given up."""
MAX_CONNECTIONS = 32
"""Connections that one client keeps open, so threads that use it at once."""
MULTIPART_THRESHOLD = 64 * 2**20
"""Bytes from which a put is sent in parts; a smaller one is one request."""
PART_SIZE = 16 * 2**20
"""Bytes in each part of such a put."""


class S3Store:
    """Objects by ``s3://bucket/key``, on AWS or anything that speaks its protocol.

    Configured as every AWS program is: the environment (``AWS_ENDPOINT_URL`` for another server), profiles,
    the machine's role. With another endpoint botocore puts the bucket in the path, which such servers expect,
    unless the profile's ``addressing_style`` says otherwise.

    Threads may share a store. A pickled store makes its own client where it arrives.

    Args:
        max_attempts: Times that one request is sent, the first included.
        multipart_threshold: Bytes from which a put is sent in parts.
    """

    def __init__(
        self, max_attempts: int = MAX_ATTEMPTS, multipart_threshold: int = MULTIPART_THRESHOLD
    ) -> None:
        self._max_attempts = max_attempts
        self._multipart_threshold = multipart_threshold
        self._client: Any = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["S3Store"], tuple[int, int]]:
        return S3Store, (self._max_attempts, self._multipart_threshold)

    @property
    def client(self) -> Any:
        """The boto3 client, made on first use."""
        with self._lock:
            if self._client is None:
                self._client = _make_client(self._max_attempts)
            return self._client

    def get(self, uri: str) -> bytes:
        """The whole object. Raises NotFoundError."""
        with s3_errors(uri):
            return self._read(uri)

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes from byte ``start``; fewer at the end. Raises NotFoundError."""
        from botocore.exceptions import ClientError

        if length <= 0:
            return b""
        with s3_errors(uri):
            try:
                return self._read(uri, Range=f"bytes={start}-{start + length - 1}")
            except ClientError as error:
                if status_of(error) != 416:  # the range begins beyond the end
                    raise
                return b""

    def size(self, uri: str) -> int:
        """The object's length in bytes. Raises NotFoundError."""
        return int(self._head(uri)["ContentLength"])

    def version(self, uri: str) -> str:
        """The object's ETag, which changes when the object does. Raises NotFoundError."""
        return str(self._head(uri)["ETag"])

    def _head(self, uri: str) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        bucket, key = _bucket_and_key(uri)
        with s3_errors(uri):
            try:
                return dict(self.client.head_object(Bucket=bucket, Key=key))
            except ClientError:
                self._read(uri, Range="bytes=0-0")  # fails with the reason, which HEAD cannot carry
                raise

    def put(self, uri: str, data: bytes) -> None:
        """Store the object, replacing what was there; nobody ever sees a part of it."""
        from boto3.s3.transfer import TransferConfig

        bucket, key = _bucket_and_key(uri)
        with s3_errors(uri):
            if len(data) < self._multipart_threshold:
                self.client.put_object(Bucket=bucket, Key=key, Body=data)
                return
            parts = TransferConfig(
                multipart_threshold=self._multipart_threshold, multipart_chunksize=PART_SIZE
            )
            self.client.upload_fileobj(io.BytesIO(data), bucket, key, Config=parts)

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Store the object if nothing is there. True if it was stored, in one atomic step."""
        with s3_errors(uri):
            for attempt in range(CONFLICT_ATTEMPTS):
                status = self._put_conditionally(uri, data)
                if status != 409:
                    return status == 200
                _pause(attempt)
        raise StorageUnavailableError(
            f"{uri}: {CONFLICT_ATTEMPTS} conditional puts met another writer at work; try again later"
        )

    def _put_conditionally(self, uri: str, data: bytes) -> int:
        """The HTTP status: 200 if stored, 412 if something is there, 409 if another put is under way."""
        from botocore.exceptions import ClientError

        bucket, key = _bucket_and_key(uri)
        try:
            self.client.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except ClientError as error:
            if status_of(error) not in (409, 412):
                raise
            return status_of(error)
        return 200

    def delete(self, uri: str) -> None:
        """Remove the object. One that is not there is no error."""
        bucket, key = _bucket_and_key(uri)
        with suppress(NotFoundError), s3_errors(uri):
            self.client.delete_object(Bucket=bucket, Key=key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below the folder ``prefix``, and the object ``prefix`` itself, in order of URI.

        The empty objects that consoles make to show a folder (``key/``) are left out. The whole listing is
        held in memory and sorted: not every server answers in order of key.
        """
        bucket, _, key = prefix.removeprefix(S3_SCHEME).rstrip("/").partition("/")
        with s3_errors(prefix):
            found = [*self._objects_under(bucket, f"{key}/" if key else "")]
            if key:
                found += self._objects_named(bucket, key)
        yield from sorted(found, key=lambda stored: stored.uri)

    def _objects_under(self, bucket: str, key_prefix: str) -> Iterator[StoredObject]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key_prefix)
        for page in pages:
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):
                    yield StoredObject(f"{S3_SCHEME}{bucket}/{entry['Key']}", entry["Size"])

    def _objects_named(self, bucket: str, key: str) -> Iterator[StoredObject]:
        """The object with this key, if there is one: it precedes all others that its key begins."""
        page = self.client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        for entry in page.get("Contents", []):
            if entry["Key"] == key:
                yield StoredObject(f"{S3_SCHEME}{bucket}/{key}", entry["Size"])

    def _read(self, uri: str, **options: str) -> bytes:
        """The body of a GET, asked for again if it breaks off: botocore retries only until it begins."""
        from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError

        bucket, key = _bucket_and_key(uri)
        attempt = 0
        while True:
            answer = self.client.get_object(Bucket=bucket, Key=key, **options)
            try:
                with closing(answer["Body"]) as body:
                    return bytes(body.read())
            except (HTTPClientError, IncompleteReadError, FlexibleChecksumError):
                attempt += 1
                if attempt >= self._max_attempts:
                    raise
            _pause(attempt)


def _make_client(max_attempts: int) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": max_attempts},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=MAX_CONNECTIONS,
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except ValueError as error:
        raise StorageError(
            f"the S3 client cannot be set up: {one_line(error)}; "
            "check AWS_ENDPOINT_URL (https://host:port) and AWS_DEFAULT_REGION"
        ) from error


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(S3_SCHEME).partition("/")
    if not key:
        raise NotFoundError(f"{uri}: this names a bucket, not an object; write s3://bucket/key")
    return bucket, key


def _pause(attempt: int) -> None:
    """Sleep up to 0.1 s, 0.2 s, 0.4 s and so on, at random so that racing writers do not meet again."""
    time.sleep(random.uniform(0, 0.1 * 2**attempt))
