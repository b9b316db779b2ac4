"""Files in a local folder, kept with the same promises as objects on S3."""

import os
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

from stylebatch.objectstore import StoredObject
from stylebatch.storage.hidden import is_hidden, is_lock
from stylebatch.storage.local_errors import file_errors
from stylebatch.storage.local_files import (
    file_size,
    file_version,
    folder_clock,
    link_once,
    locked,
    open_file,
    pieces,
    remove_unused_lock,
    replace,
    replace_unless_seen,
    written_beside,
)
from stylebatch.storage.probing import holds_conditions


class LocalStore:
    """Files by absolute path. What is put is on the disk when the call returns, or not there at all.

    Args:
        conditional: Whether conditional puts are atomic. They need hard links and file locks, which a local
            file system nearly always has; see :meth:`unconditional`.
    """

    def __init__(self, conditional: bool = True) -> None:
        self._conditional = conditional

    def get(self, uri: str) -> bytes:
        """The whole file. Raises NotFoundError."""
        with file_errors(uri), open_file(uri) as file:
            return file.read()

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes from byte ``start``; fewer at the end. Raises NotFoundError."""
        with file_errors(uri), open_file(uri) as file:
            file.seek(start)
            return file.read(max(0, length))

    def size(self, uri: str) -> int:
        """The file's length in bytes. Raises NotFoundError."""
        with file_errors(uri):
            return file_size(uri)

    def version(self, uri: str) -> str:
        """Length, time of change and inode, one of which changes with every put. Raises NotFoundError."""
        with file_errors(uri):
            return file_version(uri)

    def age(self, uri: str) -> float:
        """Seconds since the file was stored, by the clock of its file system. Raises NotFoundError."""
        with file_errors(uri), open_file(uri) as file:
            stored = os.fstat(file.fileno()).st_mtime
            return max(0.0, folder_clock(Path(uri).parent) - stored)

    def put(self, uri: str, data: bytes) -> None:
        """Store the file, replacing what was there; folders are made as needed."""
        path = Path(uri)
        with file_errors(uri), written_beside(path, [data]) as temporary:
            replace(temporary, path)

    def put_file(self, uri: str, path: Path) -> None:
        """Store what a file of this machine holds, however large, replacing what was there."""
        self.copy(str(path), uri)

    def copy(self, source: str, destination: str) -> None:
        """Store what another file holds, a piece at a time. Raises NotFoundError."""
        with file_errors(source):
            file = open_file(source)
        path = Path(destination)
        with file, file_errors(destination), written_beside(path, pieces(file)) as temporary:
            replace(temporary, path)

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Store the file if nothing is there. True if it was stored, in one atomic step."""
        path = Path(uri)
        store = link_once if self._conditional else replace_unless_seen
        with file_errors(uri), written_beside(path, [data]) as temporary:
            return store(temporary, path)

    def put_if_version(self, uri: str, data: bytes, version: str) -> str | None:
        """Replace the file if it still has this version, in one atomic step among those who use this method.

        Returns:
            Its new version; None if it has another one by now, or is gone.
        """
        path = Path(uri)
        with file_errors(uri):
            if _version_or_none(uri) != version:
                return None
            lock = locked(path) if self._conditional else nullcontext()
            with written_beside(path, [data]) as temporary, lock:
                return replace(temporary, path) if _version_or_none(uri) == version else None

    def has_conditional_puts(self, folder: str) -> bool:
        """Whether the file system of this folder has hard links and file locks; found out by using them."""
        return self._conditional and holds_conditions(self, folder)

    def unconditional(self) -> "LocalStore":
        """The same for file systems without hard links or locks; the last of racing writers wins."""
        return LocalStore(conditional=False)

    def delete(self, uri: str) -> None:
        """Remove the file. One that is not there is no error."""
        with file_errors(uri), suppress(FileNotFoundError, NotADirectoryError):
            Path(uri).unlink()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every file below the folder ``prefix``, or ``prefix`` itself if it is a file, in order of URI.

        Links to files are followed, links to folders are not. Files that are being written are left out.
        """
        with file_errors(prefix):
            is_file = Path(prefix).is_file()
        if is_file:
            yield StoredObject(prefix, self.size(prefix))
        else:
            yield from _files_below(prefix)

    def sweep(self, folder: str, older_than: float) -> None:
        """Remove temporary files and unused locks in this very folder, if older than so many seconds.

        What belongs to another user stays.
        """
        with file_errors(folder):
            left = [entry for entry in _entries(folder) if is_hidden(entry.name) and _is_regular(entry)]
            latest = folder_clock(Path(folder)) - older_than if left else 0.0
            for entry in left:
                with suppress(FileNotFoundError, PermissionError):
                    if entry.stat().st_mtime < latest:
                        _remove(Path(entry))


def _version_or_none(uri: str) -> str | None:
    with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return file_version(uri)
    return None


def _remove(left: Path) -> None:
    if is_lock(left.name):
        remove_unused_lock(left)
    else:
        left.unlink()


def _files_below(folder: str) -> Iterator[StoredObject]:
    with file_errors(folder):
        entries = _sorted_entries(folder)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(entry.path)
        elif (size := _size_if_file(entry.path)) is not None:
            yield StoredObject(entry.path, size)


def _size_if_file(path: str) -> int | None:
    """None for a file that was removed since it was listed, a dangling link, or a pipe."""
    with file_errors(path), suppress(FileNotFoundError, IsADirectoryError):
        return file_size(path)
    return None


def _sorted_entries(folder: str) -> list[os.DirEntry[str]]:
    """What a folder holds, so ordered that a depth-first walk meets the files in order of URI."""
    finished = [entry for entry in _entries(folder) if not is_hidden(entry.name)]
    return sorted(finished, key=lambda entry: entry.name + "/" * entry.is_dir(follow_symlinks=False))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [*entries]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_regular(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False)
