"""Where objects are kept: S3-compatible storage, or a local folder. The only room that knows boto3.

Every failure leaves here as a :class:`~stylebatch.errors.StorageError` whose class says whether to try again
and whether to stop.
"""

from collections.abc import Iterator
from pathlib import Path

from stylebatch.objectstore import ObjectStore, StoredObject, is_s3
from stylebatch.storage.local import LocalStore
from stylebatch.storage.retries import Retries
from stylebatch.storage.s3 import S3Store

__all__ = ["LocalStore", "Retries", "S3Store", "UriStore"]


class UriStore:
    """Every URI the program meets: ``s3://`` goes to an :class:`S3Store`, a path to a :class:`LocalStore`.

    One instance serves the whole program, and travels to its workers.

    Args:
        local: Where paths go.
        s3: Where ``s3://`` goes.
    """

    def __init__(self, local: ObjectStore | None = None, s3: ObjectStore | None = None) -> None:
        self._local: ObjectStore = local or LocalStore()
        self._s3: ObjectStore = s3 or S3Store()

    def _store(self, uri: str) -> ObjectStore:
        return self._s3 if is_s3(uri) else self._local

    def get(self, uri: str) -> bytes:
        """The whole object. Raises NotFoundError."""
        return self._store(uri).get(uri)

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes from byte ``start``; fewer at the end. Raises NotFoundError."""
        return self._store(uri).get_range(uri, start, length)

    def size(self, uri: str) -> int:
        """The object's length in bytes. Raises NotFoundError."""
        return self._store(uri).size(uri)

    def version(self, uri: str) -> str:
        """A text that changes when the object does. Raises NotFoundError."""
        return self._store(uri).version(uri)

    def age(self, uri: str) -> float:
        """Seconds since the object was stored, by the storage's own clock. Raises NotFoundError."""
        return self._store(uri).age(uri)

    def put(self, uri: str, data: bytes) -> None:
        """Store the object, replacing what was there."""
        self._store(uri).put(uri, data)

    def put_file(self, uri: str, path: Path) -> None:
        """Store what a file of this machine holds, however large, replacing what was there."""
        self._store(uri).put_file(uri, path)

    def copy(self, source: str, destination: str) -> None:
        """Store what another object of the same storage holds. Raises NotFoundError."""
        self._store(source).copy(source, destination)

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Store the object if nothing is there. True if it was stored, in one atomic step.

        Also true if an earlier try of the same call had stored it and only the answer was lost.
        """
        return self._store(uri).put_if_absent(uri, data)

    def put_if_version(self, uri: str, data: bytes, version: str) -> str | None:
        """Replace the object if it still has this version, in one atomic step.

        Returns:
            Its new version; None if it has another one by now, or is gone.
        """
        return self._store(uri).put_if_version(uri, data, version)

    def has_conditional_puts(self, folder: str) -> bool:
        """Whether conditional puts hold what they promise below this folder; found by trying."""
        return self._store(folder).has_conditional_puts(folder)

    def unconditional(self) -> "UriStore":
        """The same for storage without conditional puts; the last of racing writers wins."""
        return UriStore(self._local.unconditional(), self._s3.unconditional())

    def delete(self, uri: str) -> None:
        """Remove the object. One that is not there is no error."""
        self._store(uri).delete(uri)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below the folder ``prefix``, at any depth, in order of URI."""
        return self._store(prefix).list(prefix)

    def sweep(self, folder: str, older_than: float) -> None:
        """Remove what interrupted puts left invisibly in this very folder, if older than so many seconds."""
        self._store(folder).sweep(folder, older_than)
