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
from urllib.parse import unquote

from stylebatch.errors import StorageError
from stylebatch.quoting import MAX_LOCATION, has_credentials, quoted, reason

S3_SCHEME = "s3://"
MAX_URI_LENGTH = 4096
"""Characters of a location, as it is written and as it is resolved."""
SYSTEM_FOLDERS = ("/proc", "/sys")
"""Where reading may block for ever, never end, or tell what this process knows."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_SCHEME = re.compile(r"([^/:]*):(?=//)|([A-Za-z][A-Za-z0-9+.-]+):(?=/)|([Ss]3|data):")


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

    def age(self, uri: str) -> float:
        """Seconds since the object was stored, by the storage's own clock. Raises NotFoundError."""
        ...

    def put(self, uri: str, data: bytes) -> None:
        """Store the object, replacing what was there."""
        ...

    def put_file(self, uri: str, path: Path) -> None:
        """Store what a file of this machine holds, however large, replacing what was there."""
        ...

    def copy(self, source: str, destination: str) -> None:
        """Store what another object of the same storage holds. Raises NotFoundError."""
        ...

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Store the object if nothing is there. True if it was stored, in one atomic step.

        Also true if an earlier try of the same call had stored it and only the answer was lost.
        """
        ...

    def put_if_version(self, uri: str, data: bytes, version: str) -> str | None:
        """Replace the object if it still has this :meth:`version`, in one atomic step.

        Returns:
            Its new version; None if it has another one by now, or is gone.
        """
        ...

    def has_conditional_puts(self, folder: str) -> bool:
        """Whether :meth:`put_if_absent` and :meth:`put_if_version` hold what they promise below this folder.

        Found out by storing a small object there, twice, and removing it.
        """
        ...

    def unconditional(self) -> "ObjectStore":
        """The same store for storage without conditional puts.

        Its conditional puts look first and then put, which is not atomic: the last of racing writers wins.
        """
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose URI starts with the folder ``prefix``, at any depth, in order of URI."""
        ...

    def delete(self, uri: str) -> None:
        """Remove the object. One that is not there is no error."""
        ...

    def sweep(self, folder: str, older_than: float) -> None:
        """Remove what interrupted puts left invisibly in this very folder, if older than so many seconds."""
        ...


def is_s3(uri: str) -> bool:
    """Whether this URI is on S3-compatible storage."""
    return uri.startswith(S3_SCHEME)


def resolve_uri(text: str, base: str | None = None) -> str:
    """The canonical form of a URI that a user wrote.

    Look-alikes of other letters are no concern: names are compared and opened as they are written.

    Args:
        text: ``s3://bucket/key``, ``file:///path``, an absolute path, or one relative to ``base``.
        base: A canonical folder URI; None is the working directory.

    Raises:
        StorageError: The scheme is not allowed, the URI carries credentials or control characters, has no
            bucket, or leads to what the machine says of itself (``/proc``, ``/sys``).
    """
    _check_text(text)
    if is_s3(text):
        return _resolve_s3(text)
    if scheme := _SCHEME.match(text):
        return _resolve_file(text, scheme[scheme.lastindex or 0])
    if base is None or text.startswith(("/", "~")):
        return _absolute(text)
    joined = join_uri(base, text)
    return _resolve_s3(joined) if is_s3(base) else _absolute(joined)


def _check_text(text: str) -> None:
    if has_credentials(text):
        raise StorageError(
            f"{quoted(text, MAX_LOCATION)}: a location must not carry credentials, a signature or a token; "
            "give them to the environment or a profile"
        )
    if not text or len(text) > MAX_URI_LENGTH or not text.isprintable():
        raise StorageError(
            f"{quoted(text, MAX_LOCATION)} is not a location; "
            f"it must be 1 to {MAX_URI_LENGTH} printable characters"
        )


def _resolve_s3(text: str) -> str:
    bucket, _, key = text[len(S3_SCHEME) :].partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise StorageError(f"{quoted(text, MAX_LOCATION)} names no bucket; write s3://bucket/key")
    segments = posixpath.normpath("/" + key).strip("/")
    uri = f"{S3_SCHEME}{bucket}/{segments}" if segments else f"{S3_SCHEME}{bucket}"
    _check_text(uri)  # a relative one is longer than what was written
    return uri


def _resolve_file(text: str, scheme: str) -> str:
    """The path of a ``file:`` URI; other schemes are refused."""
    if scheme.lower() == "s3":
        raise StorageError(
            f"{quoted(text, MAX_LOCATION)} is not a location; write s3://bucket/key, in small letters"
        )
    host, _, path = text.partition(":")[2].removeprefix("//").partition("/")
    if scheme.lower() != "file" or host not in ("", "localhost"):
        raise StorageError(
            f"{quoted(scheme)[1:-1]}:// locations are not supported; use s3://bucket/key or a path"
        )
    if "?" in path or "#" in path:
        raise StorageError(
            f"{quoted(text, MAX_LOCATION)} has a ? or # in it; write %3F or %23, or a plain path"
        )
    return _absolute(unquote(f"/{path}"))


def _absolute(path: str) -> str:
    try:
        full = Path(path).expanduser().absolute().as_posix()
    except (RuntimeError, ValueError) as error:
        raise StorageError(
            f"{quoted(path, MAX_LOCATION)}: {reason(error)}; write the folder out in full"
        ) from error
    uri = "/" + posixpath.normpath(full).lstrip("/")
    _check_text(uri)
    if f"{uri}/".startswith(tuple(f"{folder}/" for folder in SYSTEM_FOLDERS)):
        raise StorageError(
            f"{quoted(uri, MAX_LOCATION)} is not a location; what is below {' and '.join(SYSTEM_FOLDERS)} is "
            "the machine's word of itself, not files"
        )
    return uri


def join_uri(base: str, *parts: str) -> str:
    """A URI below the folder ``base``."""
    return "/".join([base.rstrip("/"), *parts])


def parent_uri(uri: str) -> str:
    """The folder that holds ``uri``; a bucket holds itself."""
    folder = uri.rpartition("/")[0]
    return uri if folder == S3_SCHEME[:-1] else folder or "/"


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
