"""Objects on S3-compatible storage. boto3 takes a third of a second to import: only calls import it."""

import base64
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

from stylebatch.errors import NotFoundError, StorageError
from stylebatch.objectstore import S3_SCHEME, StoredObject
from stylebatch.storage.hidden import is_hidden
from stylebatch.storage.probing import holds_conditions
from stylebatch.storage.retries import Retries
from stylebatch.storage.s3_client import S3Connection
from stylebatch.storage.s3_errors import (
    broken_answers,
    code_of,
    is_passing,
    s3_errors,
    status_of,
    was_sent_again,
)
from stylebatch.storage.s3_listing import (
    abort_uploads,
    objects_named,
    objects_under,
    remove_probes,
    seconds_since,
)

MULTIPART_THRESHOLD = 64 * 2**20
"""Bytes from which a put is sent in parts; a smaller one is one request."""
PART_SIZE = 16 * 2**20
"""Bytes in each part of such a put."""
CONTENT_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
}
"""What a browser or viewer is told of an object, by its key's suffix."""
OTHER_CONTENT_TYPE = "application/octet-stream"
"""What it is told of any other."""

_T = TypeVar("_T")


class S3Store:
    """Objects by ``s3://bucket/key``, on AWS or anything that speaks its protocol.

    Configured as every AWS program is: the environment (``AWS_ENDPOINT_URL`` for another server), profiles,
    the machine's role. With another endpoint botocore puts the bucket in the path, which such servers expect,
    unless the profile's ``addressing_style`` says otherwise.

    After a failure that may pass (no connection, silence, an answer or a body that breaks off, a server that
    is busy or in trouble) the request is sent again; see :mod:`~stylebatch.storage.retries`. While the server
    throttles, fewer requests are under way at once; see :mod:`~stylebatch.storage.throttle`.

    A put in one request carries the CRC-32 of its bytes, one in parts that of each part (unless
    ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required``): a server that knows checksums, as AWS and SeaweedFS
    do, stores nothing else. A whole object is checked as it is read where the server kept such a checksum
    (CRC-32, SHA-1 or SHA-256, others if botocore has ``awscrt``); ranges and objects put in parts have none.

    Threads may share a store. A pickled store makes its own client where it arrives.

    Args:
        retries: When a failed request is sent again.
        multipart_threshold: Bytes from which a put is sent in parts.
        conditional: Whether the server has conditional puts; see :meth:`unconditional`.
    """

    def __init__(
        self,
        retries: Retries | None = None,
        multipart_threshold: int = MULTIPART_THRESHOLD,
        conditional: bool = True,
    ) -> None:
        self._connection = S3Connection(retries or Retries())
        self._multipart_threshold = multipart_threshold
        self._conditional = conditional

    def __reduce__(self) -> tuple[type["S3Store"], tuple[Retries, int, bool]]:
        return S3Store, (self._connection.retries, self._multipart_threshold, self._conditional)

    @property
    def client(self) -> Any:
        """The boto3 client, made on first use."""
        return self._connection.client

    def get(self, uri: str) -> bytes:
        """The whole object. Raises NotFoundError."""
        with s3_errors(uri):
            return self._read(uri)[0]

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes from byte ``start``; fewer at the end. Raises NotFoundError."""
        from botocore.exceptions import ClientError

        if length <= 0:
            return b""
        with s3_errors(uri):
            try:
                return self._read(uri, Range=f"bytes={start}-{start + length - 1}")[0]
            except ClientError as error:
                if status_of(error) != 416:  # the range begins beyond the end
                    raise
                return b""

    def size(self, uri: str) -> int:
        """The object's length in bytes. Raises NotFoundError."""
        return int(self._head(uri)["ContentLength"])

    def version(self, uri: str) -> str:
        """The object's ETag, which changes when its bytes do. Raises NotFoundError."""
        return str(self._head(uri)["ETag"])

    def age(self, uri: str) -> float:
        """Seconds since the object was stored, by the server's clock, to the second. Raises NotFoundError."""
        answer = self._head(uri)
        return seconds_since(answer["LastModified"], answer)

    def put(self, uri: str, data: bytes) -> None:
        """Store the object, replacing what was there; nobody ever sees a part of it."""
        with s3_errors(uri):
            if len(data) < self._multipart_threshold:
                self._put_in_one(uri, data)
            else:
                self._put_in_parts(
                    uri, io.BytesIO(data), lambda: self._version_if_stored(uri, data) is not None
                )

    def put_file(self, uri: str, path: Path) -> None:
        """Store what a file of this machine holds, however large, replacing what was there.

        Of a large file, a few parts are read and sent at once.
        """
        if path.stat().st_size < self._multipart_threshold:
            self.put(uri, path.read_bytes())
            return
        with s3_errors(uri):
            self._put_in_parts(uri, str(path), lambda: self._is_stored(uri, path))

    def copy(self, source: str, destination: str) -> None:
        """Store what another object of the same storage holds, of at most 5 GB. Raises NotFoundError.

        The server copies it; it does not come here.
        """
        bucket, key = _bucket_and_key(destination)
        from_bucket, from_key = _bucket_and_key(source)
        with s3_errors(source):
            self.client.copy_object(
                Bucket=bucket, Key=key, CopySource={"Bucket": from_bucket, "Key": from_key}
            )

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Store the object if nothing is there. True if it was stored, in one atomic step.

        Also true if an earlier send of the same request had stored it and only the answer was lost.
        """
        with s3_errors(uri):
            if self._conditional:
                return self._put_on_condition(uri, data, IfNoneMatch="*") is not None
            if self._version_seen(uri) is not None:
                return False
            self._put_in_one(uri, data)
            return True

    def put_if_version(self, uri: str, data: bytes, version: str) -> str | None:
        """Replace the object if it still has this version, in one atomic step.

        Returns:
            Its new version; None if it has another one by now, or is gone.
        """
        with s3_errors(uri):
            if self._conditional:
                return self._put_on_condition(uri, data, IfMatch=version)
            return self._put_in_one(uri, data) if self._version_seen(uri) == version else None

    def has_conditional_puts(self, folder: str) -> bool:
        """Whether the server knows ``If-None-Match`` and ``If-Match``; found by trying."""
        return self._conditional and holds_conditions(self, folder)

    def unconditional(self) -> "S3Store":
        """The same for a server without conditional puts; the last of racing writers wins."""
        store = S3Store(self._connection.retries, self._multipart_threshold, conditional=False)
        store._connection = self._connection
        return store

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
        bucket, folder_key = _bucket_and_folder_key(prefix)
        with s3_errors(prefix):
            found = self._unbroken(lambda: objects_under(self.client, bucket, folder_key))
            if folder_key:
                found += self._unbroken(lambda: objects_named(self.client, bucket, folder_key[:-1]))
        visible = (stored for stored in found if not is_hidden(stored.uri.rpartition("/")[2]))
        yield from sorted(visible, key=lambda stored: stored.uri)

    def sweep(self, folder: str, older_than: float) -> None:
        """Abort unfinished uploads to this very folder, if older than so many seconds, and remove old probes.

        Where the server cannot list uploads, or not to these credentials, they stay; nobody sees them.
        """
        bucket, folder_key = _bucket_and_folder_key(folder)
        with s3_errors(folder):
            remove_probes(self.client, bucket, folder_key, older_than)
        try:
            with s3_errors(folder):
                abort_uploads(self.client, bucket, folder_key, older_than)
        except StorageError as error:
            if error.can_retry:
                raise

    def _head(self, uri: str) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        bucket, key = _bucket_and_key(uri)
        with s3_errors(uri):
            try:
                return dict(self.client.head_object(Bucket=bucket, Key=key))
            except ClientError as error:
                if not is_passing(status_of(error), code_of(error), None):
                    self._read(uri, Range="bytes=0-0")  # fails with the reason, which HEAD cannot carry
                raise

    def _version_seen(self, uri: str) -> str | None:
        """The object's version; None if it is not there."""
        from botocore.exceptions import ClientError

        bucket, key = _bucket_and_key(uri)
        try:
            return str(self.client.head_object(Bucket=bucket, Key=key)["ETag"])
        except ClientError as error:
            if status_of(error) != 404:
                raise
            return None

    def _put_in_one(self, uri: str, data: bytes, **condition: str) -> str:
        """Put with one request; the version. The checksum is in a header, which every server understands."""
        bucket, key = _bucket_and_key(uri)
        checksum = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
        answer = self.client.put_object(
            Bucket=bucket,
            Key=key,
            Body=data,
            ContentType=_content_type(key),
            ChecksumCRC32=checksum,
            **condition,
        )
        return str(answer["ETag"])

    def _put_in_parts(self, uri: str, source: BinaryIO | str, is_stored: Callable[[], bool]) -> None:
        """Put what an open file, or the one of this name, holds.

        Args:
            uri: Where to.
            source: Of a named file, the parts under way are read as they are sent.
            is_stored: Whether the object is there and holds the same.
        """
        from boto3.s3.transfer import TransferConfig, create_transfer_manager
        from botocore.exceptions import ClientError

        bucket, key = _bucket_and_key(uri)
        parts = TransferConfig(multipart_threshold=self._multipart_threshold, multipart_chunksize=PART_SIZE)
        content_type = {"ContentType": _content_type(key)}
        try:
            with create_transfer_manager(self.client, parts) as transfers:
                transfers.upload(source, bucket, key, extra_args=content_type).result()
        except ClientError as error:
            # The answer to the last request may have been lost: a completed upload is no longer known.
            if code_of(error) != "NoSuchUpload" or not is_stored():
                raise

    def _is_stored(self, uri: str, path: Path) -> bool:
        """Whether the object holds what a file does."""
        with suppress(NotFoundError), path.open("rb") as file:
            starts = range(0, path.stat().st_size, PART_SIZE)
            ranges = (f"bytes={start}-{start + PART_SIZE - 1}" for start in starts)
            return self.size(uri) == path.stat().st_size and all(
                self._read(uri, Range=part)[0] == file.read(PART_SIZE) for part in ranges
            )
        return False

    def _put_on_condition(self, uri: str, data: bytes, **condition: str) -> str | None:
        """The new version; None if the condition did not hold."""
        from botocore.exceptions import ClientError

        try:
            return self._put_in_one(uri, data, **condition)
        except ClientError as error:
            if status_of(error) != 412 and code_of(error) != "NoSuchKey":
                raise
            return self._version_if_stored(uri, data) if was_sent_again(error) else None

    def _version_if_stored(self, uri: str, data: bytes) -> str | None:
        """The object's version if it is these very bytes: an earlier send had stored them."""
        from botocore.exceptions import ClientError

        try:
            stored, version = self._read(uri)
        except ClientError as error:
            if status_of(error) != 404:
                raise
            return None
        return version if stored == data else None

    def _read(self, uri: str, **options: str) -> tuple[bytes, str]:
        """The body of a GET and the object's version."""
        bucket, key = _bucket_and_key(uri)
        return self._unbroken(lambda: _body_and_version(self.client, Bucket=bucket, Key=key, **options))

    def _unbroken(self, request: Callable[[], _T]) -> _T:
        """What a request returns, made again if its answer breaks off, for which botocore offers no retry."""
        retries = self._connection.retries
        pauses = retries.pauses_of_one_call()
        while True:
            try:
                return request()
            except broken_answers():
                seconds = pauses.after_failure()
                if seconds is None:
                    raise
            retries.sleep(seconds)


def _body_and_version(client: Any, **parameters: str) -> tuple[bytes, str]:
    from botocore.exceptions import ReadTimeoutError, ResponseStreamingError

    answer = client.get_object(**parameters)
    try:
        with closing(answer["Body"]) as body:
            return bytes(body.read()), str(answer["ETag"])
    except ReadTimeoutError as error:  # not one of the request, whose retries have been used up
        raise ResponseStreamingError(error=error) from error


def _content_type(key: str) -> str:
    return CONTENT_TYPES.get(PurePosixPath(key).suffix.lower(), OTHER_CONTENT_TYPE)


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(S3_SCHEME).partition("/")
    if not key:
        raise NotFoundError(f"{uri}: this names a bucket, not an object; write s3://bucket/key")
    return bucket, key


def _bucket_and_folder_key(uri: str) -> tuple[str, str]:
    """The bucket, and what the keys below a folder begin with; empty for the whole bucket."""
    bucket, _, key = uri.removeprefix(S3_SCHEME).rstrip("/").partition("/")
    return bucket, f"{key}/" if key else ""
