"""What the rest of the program knows about storage: URIs, the store protocol, a file over ranged reads.

A URI is canonical when it is ``s3://bucket/key`` or an absolute local path; :func:`resolve_uri` makes it so.
The stores themselves are in :mod:`stylebatch.storage`.
"""

import io
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from stylebatch.errors import StorageError

S3_SCHEME = "s3://"
MAX_URI_LENGTH = 4096
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")


@dataclass(frozen=True)
class StoredObject:
    """One object or file in a listing."""

    uri: str
    """Canonical URI."""
    size: int
    """Bytes."""


class ObjectStore(Protocol):
    """Whole objects by canonical URI. Every put is whole or nothing; every error is a StorageError."""

    def get(self, uri: str) -> bytes:
        """The whole object. Raises NotFoundError."""
        ...

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes from byte ``start``; fewer at the end. Raises NotFoundError."""
        ...

    def size(self, uri: str) -> int:
        """The object's length in bytes. Raises NotFoundError."""
        ...

    def version(self, uri: str) -> str:
        """A text that changes when the object does. Raises NotFoundError."""
        ...

    def put(self, uri: str, data: bytes) -> None:
        """Store the object, replacing what was there."""
        ...

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Store the object if nothing is there. True if it was stored, in one atomic step."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose URI starts with the folder ``prefix``, at any depth, in order of URI."""
        ...

    def delete(self, uri: str) -> None:
        """Remove the object. One that is not there is no error."""
        ...


def is_s3(uri: str) -> bool:
    """Whether this URI is on S3-compatible storage."""
    return uri.startswith(S3_SCHEME)


def resolve_uri(text: str, base: str | None = None) -> str:
    """The canonical form of a URI that a user wrote.

    Args:
        text: ``s3://bucket/key``, ``file:///path``, an absolute path, or one relative to ``base``.
        base: A canonical folder URI; None is the working directory.

    Raises:
        StorageError: The scheme is not allowed, the URI carries credentials or control characters, or has
            no bucket.
    """
    if not text or len(text) > MAX_URI_LENGTH or not text.isprintable():
        raise StorageError(
            f"{_shown(text)} is not a location; it must be 1 to {MAX_URI_LENGTH} printable characters"
        )
    if is_s3(text):
        return _resolve_s3(text)
    if re.match(r"(?i)s3:", text):
        raise StorageError(f"{_shown(text)} is not a location; write s3://bucket/key, in small letters")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        parts = urlsplit(text)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise StorageError(
                f"{parts.scheme}:// locations are not supported; use s3://bucket/key or a path"
            )
        return _absolute(unquote(parts.path))
    if base is None or text.startswith(("/", "~")):
        return _absolute(text)
    return _resolve_s3(join_uri(base, text)) if is_s3(base) else _absolute(join_uri(base, text))


def _resolve_s3(text: str) -> str:
    bucket, _, key = text[len(S3_SCHEME) :].partition("/")
    if "@" in bucket or re.match(r"[^/@]*:[^@]*@", text[len(S3_SCHEME) :]):
        raise StorageError(
            "a location must not carry credentials (s3://***@...); give them to the environment or a profile"
        )
    if not _BUCKET.fullmatch(bucket):
        raise StorageError(f"{_shown(text)} names no bucket; write s3://bucket/key")
    segments = posixpath.normpath("/" + key).strip("/")
    return f"{S3_SCHEME}{bucket}/{segments}" if segments else f"{S3_SCHEME}{bucket}"


def _absolute(path: str) -> str:
    try:
        full = Path(path).expanduser().absolute().as_posix()
    except RuntimeError as error:
        raise StorageError(f"{_shown(path)}: {error}; write the folder out in full") from error
    return "/" + posixpath.normpath(full).lstrip("/")


def join_uri(base: str, *parts: str) -> str:
    """A URI below the folder ``base``."""
    return "/".join([base.rstrip("/"), *parts])


def parent_uri(uri: str) -> str:
    """The folder that holds ``uri``; a bucket holds itself."""
    folder = uri.rpartition("/")[0]
    return uri if folder == S3_SCHEME[:-1] else folder or "/"


def _shown(text: str) -> str:
    return ascii(text) if len(text) <= 80 else ascii(text[:77]) + "..."


class ObjectFile(io.RawIOBase):
    """A stored object as a read-only, seekable file, so that Parquet reads only the bytes it needs."""

    def __init__(self, store: ObjectStore, uri: str) -> None:
        super().__init__()
        self._store = store
        self._uri = uri
        self._size = store.size(uri)
        self._position = 0

    def readable(self) -> bool:
        """True: the file can be read."""
        return True

    def seekable(self) -> bool:
        """True: reads may start anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, as in :class:`io.RawIOBase`."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        """The current position in bytes."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes from the current position; -1 reads to the end."""
        left = max(0, self._size - self._position)
        length = left if size is None or size < 0 else min(size, left)
        if length == 0:
            return b""
        data = self._store.get_range(self._uri, self._position, length)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """Everything from the current position to the end."""
        return self.read()
