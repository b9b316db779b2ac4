"""Single files: opened, written whole, given their names, and locked."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stylebatch.errors import ConfigurationError
from stylebatch.storage.hidden import lock_name, temporary_name

PIECE = 2**20
"""Bytes of a file that are read at once."""
_CLOCK_TICK = 1_000_000_000
"""Nanoseconds within which a file system's clock may give two files the same time."""
_NOT_SUPPORTED = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)


def file_size(path: str) -> int:
    """Bytes of a regular file: a pipe would block its reader, a device might never end."""
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Not a regular file", path)
    return status.st_size


def open_file(path: str) -> BinaryIO:
    """A regular file, to be read."""
    file_size(path)
    return Path(path).open("rb")


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """What an open file holds, a megabyte at a time."""
    while piece := file.read(PIECE):
        yield piece


def file_version(path: str) -> str:
    """What changes with every put; of the opened file, which makes a network folder fetch the latest."""
    with open_file(path) as file:
        return _version(os.fstat(file.fileno()))


def _version(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"


def folder_clock(folder: Path) -> float:
    """Seconds since 1970 by the clock that stamps files in this folder, a server's if it is on a network."""
    probe = folder / temporary_name()
    try:
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime
    except OSError:  # it cannot be written to
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink()


@contextmanager
def written_beside(path: Path, data: Iterable[bytes]) -> Iterator[Path]:
    """A temporary file with ``data``, safe on the disk, in the folder of ``path``; gone at the end."""
    _make_folder(path.parent)
    temporary = path.parent / temporary_name()
    try:
        with temporary.open("xb") as file:
            file.writelines(data)
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


def replace(temporary: Path, path: Path) -> str:
    """Give the file its name, whatever has it now, and return its version."""
    with suppress(FileNotFoundError):
        _make_newer(temporary, path.stat().st_mtime_ns)
    version = _version(temporary.stat())
    temporary.replace(path)
    return version


def _make_newer(temporary: Path, replaced_ns: int) -> None:
    """Keep versions apart that share a size, a tick of the clock and, every other time, the inode."""
    status = temporary.stat()
    if status.st_mtime_ns <= replaced_ns < status.st_mtime_ns + _CLOCK_TICK:
        os.utime(temporary, ns=(status.st_atime_ns, replaced_ns + 1))


def link_once(temporary: Path, path: Path) -> bool:
    """Give the file its name unless something has it already; True if the name was free."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        _refuse_folder(path)
        return False
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        raise _lacking(path, "hard links") from error
    return True


def replace_unless_seen(temporary: Path, path: Path) -> bool:
    """The same without hard links: look, then give the file its name."""
    if os.path.lexists(path):
        _refuse_folder(path)
        return False
    replace(temporary, path)
    return True


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)) from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep out everyone else who asks for this file's lock; the kernel frees it if this process dies.

    The lock is that of a hidden side file, which is removed at the end.
    """
    side_file = path.parent / lock_name(path.name)
    while True:
        with side_file.open("ab") as file:
            _lock(file, side_file)
            if not _is_current(file, side_file):
                continue  # its last holder has removed it: lock the one that is there now
            try:
                yield
            finally:
                side_file.unlink(missing_ok=True)
            return


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        path.unlink(missing_ok=True)
        raise _lacking(path.parent, "file locks") from error


def _is_current(file: BinaryIO, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def remove_unused_lock(side_file: Path) -> None:
    """Remove a side file unless someone holds its lock."""
    with side_file.open("ab") as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_current(file, side_file):
            side_file.unlink()


def _lacking(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path}: the file system has no {what}, so a file cannot be stored once and only once; "
        "use a folder on another file system, or S3"
    )
