"""A store in memory that counts what is read, and a short way to open a manifest from columns."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stylebatch.errors import NotFoundError
from stylebatch.manifest import Manifest, open_manifest
from stylebatch.objectstore import StoredObject

URI = "s3://bucket/study/pairs.parquet"


class MemoryStore:
    """An ObjectStore in a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.ranges: list[tuple[str, int, int]] = []

    def get(self, uri: str) -> bytes:
        return self._object(uri)

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        data = self._object(uri)[start : start + length]
        self.ranges.append((uri, start, len(data)))
        return data

    def size(self, uri: str) -> int:
        return len(self._object(uri))

    def put(self, uri: str, data: bytes) -> None:
        self.objects[uri] = data

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        return self.objects.setdefault(uri, data) is data

    def list(self, prefix: str) -> Iterator[StoredObject]:
        for uri in sorted(self.objects):
            if uri == prefix or uri.startswith(prefix.rstrip("/") + "/"):
                yield StoredObject(uri, len(self.objects[uri]))

    def delete(self, uri: str) -> None:
        self.objects.pop(uri, None)

    def bytes_read(self) -> int:
        return sum(length for _, _, length in self.ranges)

    def _object(self, uri: str) -> bytes:
        if uri not in self.objects:
            raise NotFoundError(f"{uri}: nothing is there")
        return self.objects[uri]


def parquet_bytes(columns: Any, **options: Any) -> bytes:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


Opener = Callable[..., Manifest]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def opened(store: MemoryStore) -> Opener:
    """``opened(columns, uri=..., **parquet options)``: the columns, written to the store and opened."""

    def open_columns(columns: Any, uri: str = URI, **options: Any) -> Manifest:
        store.put(uri, parquet_bytes(columns, **options))
        return open_manifest(store, uri)

    return open_columns


@pytest.fixture
def to_parquet() -> Callable[..., bytes]:
    return parquet_bytes
