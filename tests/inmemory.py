"""A store in memory that notes what is done with it, and small pictures and manifests to put into it."""

import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from stylebatch.errors import NotFoundError
from stylebatch.manifest import Manifest, open_manifest
from stylebatch.objectstore import StoredObject

MANIFEST = "s3://bucket/study/pairs.parquet"


class MemoryStore:
    """An ObjectStore in a dictionary."""

    def __init__(self, objects: Mapping[str, bytes] | None = None) -> None:
        self.objects: dict[str, bytes] = dict(objects or {})
        self.operations: list[tuple[str, str]] = []
        """Every call in order, as (method, URI)."""
        self.read: list[tuple[str, int]] = []
        """Every get and ranged read, as (URI, bytes)."""
        self.errors: dict[tuple[str, str], Exception] = {}
        """What a call, as (method, URI), raises instead."""
        self.clock: Callable[[], float] = time.monotonic
        """The storage's clock."""
        self._stored: dict[str, float] = {}
        self._lock = threading.Lock()

    def get(self, uri: str) -> bytes:
        return self._read("get", uri, 0, None)

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        return self._read("get_range", uri, start, start + length)

    def size(self, uri: str) -> int:
        self._note("size", uri)
        return len(self._object(uri))

    def version(self, uri: str) -> str:
        self._read("version", uri, 0, None)
        return self._version(uri)

    def put(self, uri: str, data: bytes) -> None:
        self._note("put", uri)
        self._store(uri, data)

    def put_file(self, uri: str, path: Path) -> None:
        self._note("put_file", uri)
        self._store(uri, path.read_bytes())

    def copy(self, source: str, destination: str) -> None:
        self._note("copy", source)
        self._store(destination, self._object(source))

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        self._note("put_if_absent", uri)
        with self._lock:
            if uri in self.objects:
                return False
            self._store(uri, data)
            return True

    def age(self, uri: str) -> float:
        self._note("age", uri)
        self._object(uri)
        return self.clock() - self._stored.get(uri, 0.0)

    def put_if_version(self, uri: str, data: bytes, version: str) -> str | None:
        self._note("put_if_version", uri)
        with self._lock:
            if uri not in self.objects or self._version(uri) != version:
                return None
            self._store(uri, data)
            return self._version(uri)

    def has_conditional_puts(self, folder: str) -> bool:
        self._note("has_conditional_puts", folder)
        return True

    def unconditional(self) -> "MemoryStore":
        return self

    def sweep(self, folder: str, older_than: float) -> None:
        self._note("sweep", folder)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        self._note("list", prefix)
        for uri in sorted(self.objects):
            if uri == prefix or uri.startswith(prefix.rstrip("/") + "/"):
                yield StoredObject(uri, len(self.objects[uri]))

    def delete(self, uri: str) -> None:
        self._note("delete", uri)
        self.objects.pop(uri, None)

    def calls(self, *methods: str) -> Sequence[str]:
        """The URIs that these methods were called with, in order."""
        return [uri for method, uri in self.operations if method in methods]

    def _store(self, uri: str, data: bytes) -> None:
        self.objects[uri] = data
        self._stored[uri] = self.clock()

    def _version(self, uri: str) -> str:
        return hashlib.sha256(self.objects[uri]).hexdigest()

    def _note(self, method: str, uri: str) -> None:
        with self._lock:
            self.operations.append((method, uri))
        if (method, uri) in self.errors:
            raise self.errors[method, uri]

    def _read(self, method: str, uri: str, start: int, stop: int | None) -> bytes:
        self._note(method, uri)
        data = self._object(uri)[start:stop]
        with self._lock:
            self.read.append((uri, len(data)))
        return data

    def _object(self, uri: str) -> bytes:
        if uri not in self.objects:
            raise NotFoundError(f"{uri}: nothing is there")
        return self.objects[uri]


def picture_array(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A smooth picture with some structure, uint8 (height, width, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def picture_bytes(width: int, height: int, seed: int = 0, format: str = "PNG") -> bytes:
    """The same as a file."""
    file = io.BytesIO()
    Image.fromarray(picture_array(width, height, seed)).save(file, format)
    return file.getvalue()


def make_manifest(
    store: MemoryStore, columns: Mapping[str, Any], uri: str = MANIFEST, **options: Any
) -> Manifest:
    """A manifest of these columns, written to the store as Parquet and opened."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    store.put(uri, sink.getvalue())
    return open_manifest(store, uri)
