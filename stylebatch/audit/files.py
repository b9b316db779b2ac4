"""Published pictures and their sources against the table: are they there, and are they the same files."""

import functools
import hashlib
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from stylebatch.errors import (
    ConfigurationError,
    CredentialsError,
    StorageError,
    StorageUnavailableError,
    StylebatchError,
)
from stylebatch.layout import image_sha256
from stylebatch.objectstore import ObjectStore
from stylebatch.pairs import LOCATION_FIELDS, Pair
from stylebatch.pictures import fetch, read_provenance
from stylebatch.quoting import shown

WITH_PROVENANCE = ("png", "jpeg", "tiff")
"""Formats whose files say inside how they were made."""
REMEMBERED = 16_384
"""Hashes of source files that are kept: many pairs share a source."""


def concerns_all(error: StylebatchError) -> bool:
    """Whether an error says nothing of one file, but that the storage cannot be asked."""
    return isinstance(error, StorageError) and isinstance(
        error, StorageUnavailableError | CredentialsError | ConfigurationError
    )


class SourceFiles:
    """The files that pairs were made from, each read once.

    Args:
        store: Where they are.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._sha256 = functools.lru_cache(REMEMBERED)(self._hash)

    def _hash(self, uri: str) -> str:
        return hashlib.sha256(fetch(self._store, uri)).hexdigest()

    def problems(self, row: Mapping[str, Any], pair: Pair) -> Iterator[str]:
        """What is wrong with the sources of a row: one clause for each that is missing or another file."""
        for name, uri, told in _sources(row, pair):
            try:
                found = self._sha256(uri)
            except StylebatchError as error:
                if concerns_all(error):
                    raise
                yield f"the {name} image cannot be read: {error}"
                continue
            if found != told:
                yield f"the {name} image {uri} is another file: {_hashes(told, found)}"


def _sources(row: Mapping[str, Any], pair: Pair) -> Iterator[tuple[str, str, str | None]]:
    """Every source's name, URI and hash as the table has it."""
    if pair.content is not None:
        yield "content", pair.content, row["content_sha256"]
    told = [*(row["style_sha256"] or []), *[None] * len(pair.styles)]
    yield from (("style", style, sha256) for style, sha256 in zip(pair.styles, told, strict=False))
    for field in ("start", "histogram", "spectrum"):
        value = getattr(pair.recipe, field)
        if value is not None and value not in LOCATION_FIELDS[field] and f"{field}_sha256" in row:
            yield field, value, row[f"{field}_sha256"]


def picture_problems(row: Mapping[str, Any], data: bytes) -> Iterator[str]:
    """What is wrong with a published file, byte for byte and by what it says of itself."""
    found = image_sha256(data)
    if found != row["image_sha256"]:
        yield f"its image is another file: {_hashes(row['image_sha256'], found)}"
    elif row["format"] in WITH_PROVENANCE:
        try:
            inside = read_provenance(data, "its image")
        except StylebatchError as error:
            yield str(error)
            return
        yield from _contradictions(row, inside)


def _contradictions(row: Mapping[str, Any], inside: Mapping[str, Any]) -> Iterator[str]:
    """What the file says otherwise than the table. Of locations it has the names alone."""
    for name in sorted(row.keys() & inside.keys()):
        told, written = row[name], inside[name]
        if name in LOCATION_FIELDS:
            told, written = _base_name(told), _base_name(written)
        if told != written:
            yield f"{name} is {shown(told)} in the table and {shown(written)} inside the file"
    named = {
        "content_name": _base_name(row["content"]),
        "style_names": [_base_name(style) for style in row["style"] or []],
    }
    for name, told in named.items():
        if name in inside and inside[name] != told:
            yield f"{name} is {shown(told)} by the table and {shown(inside[name])} inside the file"


def _base_name(location: Any) -> Any:
    return posixpath.basename(location) if isinstance(location, str) else location


def _hashes(told: str | None, found: str) -> str:
    return f"its SHA-256 is {found[:16]}..., in the table {(told or 'none')[:16]}..."
