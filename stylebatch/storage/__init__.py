"""Where objects are kept: S3-compatible storage, or a local folder. The only room that knows boto3.

Every failure leaves here as a :class:`~stylebatch.errors.StorageError` whose class says whether to try again
and whether to stop.
"""

from collections.abc import Iterator

from stylebatch.objectstore import ObjectStore, StoredObject, is_s3
from stylebatch.storage.local import LocalStore
from stylebatch.storage.s3 import S3Store

__all__ = ["LocalStore", "S3Store", "UriStore"]


class UriStore:
    """Every URI the program meets: ``s3://`` goes to an :class:`S3Store`, a path to a :class:`LocalStore`.

    One instance serves the whole program, and travels to its workers.
    """

    def __init__(self) -> None:
        self._local: ObjectStore = LocalStore()
        self._s3: ObjectStore = S3Store()

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

    def put(self, uri: str, data: bytes) -> None:
        """Store the object, replacing what was there."""
        self._store(uri).put(uri, data)

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Store the object if nothing is there. True if it was stored, in one atomic step."""
        return self._store(uri).put_if_absent(uri, data)

    def delete(self, uri: str) -> None:
        """Remove the object. One that is not there is no error."""
        self._store(uri).delete(uri)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below the folder ``prefix``, at any depth, in order of URI."""
        return self._store(prefix).list(prefix)
