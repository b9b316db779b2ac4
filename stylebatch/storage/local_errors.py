"""What the operating system's failures mean: each becomes a StorageError."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from stylebatch.errors import (
    AccessDeniedError,
    ConfigurationError,
    NotFoundError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)

_CLASS_OF_ERRNO: dict[int | None, type[StorageError]] = {
    errno.ENOENT: NotFoundError,
    errno.EISDIR: NotFoundError,
    errno.ENOTDIR: NotFoundError,
    errno.EACCES: AccessDeniedError,
    errno.EPERM: AccessDeniedError,
    errno.ENOSPC: StorageFullError,
    errno.EDQUOT: StorageFullError,
    errno.EROFS: ConfigurationError,
    errno.ESTALE: StorageUnavailableError,
    errno.ETIMEDOUT: StorageUnavailableError,
}
_ADVICE: dict[type[StorageError], str] = {
    NotFoundError: "check that the path is right and leads to a file",
    AccessDeniedError: "give this user the right to read and write there, or use another folder",
    StorageFullError: "make room on that disk, or use another one, then run again",
    ConfigurationError: "mount it so that it can be written to, or use another folder",
    StorageUnavailableError: "check the server of that network folder, then try again",
    StorageError: "check the disk or file system that holds it",
}


@contextmanager
def file_errors(uri: str) -> Iterator[None]:
    """Turn every OSError inside the block into a StorageError about this file."""
    try:
        yield
    except OSError as error:
        kind = _CLASS_OF_ERRNO.get(error.errno, StorageError)
        reason = (error.strerror or type(error).__name__).lower()
        raise kind(f"{uri}: {reason}; {_ADVICE[kind]}") from error
