"""Files in a local folder, kept with the same promises as objects on S3."""

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stylebatch.errors import AccessDeniedError, NotFoundError, StorageError, StorageFullError
from stylebatch.objectstore import StoredObject

TEMPORARY_PREFIX = ".stylebatch-"
TEMPORARY_SUFFIX = ".tmp"


class LocalStore:
    """Files by absolute path. What is put is on the disk when the call returns, or not there at all."""

    def get(self, uri: str) -> bytes:
        """The whole file. Raises NotFoundError."""
        with _file_errors(uri), _open_file(uri) as file:
            return file.read()

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes from byte ``start``; fewer at the end. Raises NotFoundError."""
        with _file_errors(uri), _open_file(uri) as file:
            file.seek(start)
            return file.read(max(0, length))

    def size(self, uri: str) -> int:
        """The file's length in bytes. Raises NotFoundError."""
        with _file_errors(uri):
            return _file_size(uri)

    def version(self, uri: str) -> str:
        """Length and time of change, which change when the file does. Raises NotFoundError."""
        with _file_errors(uri):
            status = Path(uri).stat()
            return f"{status.st_size} {status.st_mtime_ns}"

    def put(self, uri: str, data: bytes) -> None:
        """Store the file, replacing what was there; folders are made as needed."""
        with _file_errors(uri), _written_beside(Path(uri), data) as temporary:
            temporary.replace(uri)

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Store the file if nothing is there. True if it was stored, in one atomic step."""
        with _file_errors(uri), _written_beside(Path(uri), data) as temporary:
            return _link(temporary, Path(uri))

    def delete(self, uri: str) -> None:
        """Remove the file. One that is not there is no error."""
        with _file_errors(uri), suppress(FileNotFoundError, NotADirectoryError):
            Path(uri).unlink()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every file below the folder ``prefix``, or ``prefix`` itself if it is a file, in order of URI.

        Links to files are followed, links to folders are not. Files that are being written are left out.
        """
        with _file_errors(prefix):
            is_file = Path(prefix).is_file()
        if is_file:
            yield StoredObject(prefix, self.size(prefix))
        else:
            yield from _files_below(prefix)


def _file_size(path: str) -> int:
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would block its reader, a device might never end
        raise IsADirectoryError(errno.EISDIR, "Not a regular file", path)
    return status.st_size


def _open_file(path: str) -> BinaryIO:
    _file_size(path)
    return Path(path).open("rb")


@contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[Path]:
    """A temporary file with ``data``, safe on the disk, in the folder of ``path``; gone at the end."""
    _make_folder(path.parent)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power failure, as fsync does for a file's bytes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def _link(temporary: Path, path: Path) -> bool:
    """Give the file its name unless something has it already; True if the name was free."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)) from None
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        raise StorageError(
            f"{path}: the file system has no hard links, so a file cannot be stored once and only once; "
            "use a folder on another file system, or S3"
        ) from error
    return True


def _files_below(folder: str) -> Iterator[StoredObject]:
    with _file_errors(folder):
        entries = _sorted_entries(folder)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(entry.path)
        elif (size := _size_if_file(entry.path)) is not None:
            yield StoredObject(entry.path, size)


def _size_if_file(path: str) -> int | None:
    """None for a file that was removed since it was listed, a dangling link, or a pipe."""
    with _file_errors(path), suppress(FileNotFoundError, IsADirectoryError):
        return _file_size(path)
    return None


def _sorted_entries(folder: str) -> list[os.DirEntry[str]]:
    """What a folder holds, so ordered that a depth-first walk meets the files in order of URI."""
    try:
        with os.scandir(folder) as entries:
            finished = [entry for entry in entries if not _is_temporary(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(finished, key=lambda entry: entry.name + "/" * entry.is_dir(follow_symlinks=False))


def _is_temporary(name: str) -> bool:
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


_FILE_ADVICE: dict[type[StorageError], str] = {
    NotFoundError: "check that the path is right and leads to a file",
    AccessDeniedError: "give this user the right to read and write there, or use another folder",
    StorageFullError: "make room on that disk, or use another one, then run again",
    StorageError: "check the disk or file system that holds it",
}


@contextmanager
def _file_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = _file_error_class(error)
        reason = (error.strerror or type(error).__name__).lower()
        raise kind(f"{uri}: {reason}; {_FILE_ADVICE[kind]}") from error


def _file_error_class(error: OSError) -> type[StorageError]:
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return NotFoundError
    if isinstance(error, PermissionError):
        return AccessDeniedError
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError
    return StorageError
