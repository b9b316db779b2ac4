"""Making manifests: find pictures, pair them, write the table."""

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.errors import ManifestError, NotFoundError, StorageError
from stylebatch.objectstore import ObjectStore, is_s3, resolve_uri
from stylebatch.quoting import MAX_LOCATION, quoted, reason

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
"""What a picture's name ends in, in any letter case."""
ROWS_PER_GROUP = 10_000
"""Rows that a reader which starts in the middle may have to skip."""

_WILDCARD = re.compile(r"[*?\[]")


def write_manifest(store: ObjectStore, uri: str, table: pa.Table) -> None:
    """Write a manifest as one Parquet file, in one put.

    Args:
        store: Where to write.
        uri: Canonical URI of the file.
        table: Columns as :func:`stylebatch.manifest.validate` wants them; at least one row.

    Raises:
        ManifestError: The table has no rows.
        StorageError: The file cannot be written.
    """
    if table.num_rows == 0:
        raise ManifestError(f"{uri}: the table has no rows; a manifest needs at least one pair")
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=ROWS_PER_GROUP, compression="zstd")
    store.put(uri, sink.getvalue().to_pybytes())


def cross(contents: Sequence[str], styles: Sequence[str]) -> pa.Table:
    """Every content with every style, content by content.

    Args:
        contents: URIs as the manifest will hold them.
        styles: URIs as the manifest will hold them.

    Returns:
        A table with the string columns ``content`` and ``style`` and ``len(contents) * len(styles)`` rows.
    """
    pairs = list(itertools.product(contents, styles))
    columns = [pa.array([pair[i] for pair in pairs], pa.string()) for i in (0, 1)]
    return pa.table(columns, names=["content", "style"])


def find_pictures(store: ObjectStore, location: str) -> list[str]:
    """The pictures of a folder and all folders in it, a pattern, or a single file, in order of URI.

    Hidden files and folders are left out.

    Args:
        store: Where to look.
        location: A folder, an ``s3://`` prefix, a picture, or a local pattern with ``*``, ``?``, ``[...]``
            or ``**``, as a user writes it.

    Returns:
        Canonical URIs.

    Raises:
        ManifestError: There are no pictures, or one has a name that no manifest can hold.
        StorageError: The storage refuses, or the location is none.
    """
    uri = resolve_uri(location)
    if _is_picture(uri) and _exists(store, uri):
        return [uri]
    found = _below(uri, (item.uri for item in store.list(uri)))
    pattern = uri if "://" in location else location  # the working directory may have wildcards in its name
    if not found and _WILDCARD.search(pattern) and not is_s3(pattern):
        found = _matches(pattern)
    pictures = sorted(set(filter(_is_picture, found)))
    if not pictures:
        raise ManifestError(_nothing_found(uri))
    for picture in pictures:
        _check_can_be_written(picture)
    return pictures


def _is_picture(uri: str) -> bool:
    return uri.lower().endswith(PICTURE_SUFFIXES)


def _exists(store: ObjectStore, uri: str) -> bool:
    try:
        store.size(uri)
    except NotFoundError:
        return False
    return True


def _below(folder: str, uris: Iterable[str]) -> list[str]:
    """The URIs that have no hidden file or folder after ``folder``."""
    start = folder.rstrip("/") + "/"
    return [uri for uri in uris if uri.startswith(start) and "/." not in uri[len(start) - 1 :]]


def _matches(pattern: str) -> list[str]:
    """The local files that a pattern stands for."""
    parts = PurePosixPath(pattern).parts
    fixed = list(itertools.takewhile(lambda part: not _WILDCARD.search(part), parts))
    wild = parts[len(fixed) :]
    if wild[-1] == "**":
        wild = (*wild, "*")
    root = resolve_uri(str(PurePosixPath(*fixed)))
    try:
        paths = Path(root).glob(str(PurePosixPath(*wild)))
        return _below(root, [path.as_posix() for path in paths if path.is_file()])
    except (ValueError, OSError) as error:
        raise ManifestError(
            f"{quoted(pattern, MAX_LOCATION)}: the pattern cannot be searched: {reason(error)}"
        ) from error


def _check_can_be_written(uri: str) -> None:
    """Refuse a name that means another file, or none, when a manifest is read."""
    try:
        if resolve_uri(uri) == uri:
            return
    except StorageError:
        pass
    raise ManifestError(f"{quoted(uri, MAX_LOCATION)}: a manifest cannot hold this name; rename the file")


def _nothing_found(uri: str) -> str:
    wildcards = (
        " (wildcards work on local paths; on S3, give a prefix)"
        if is_s3(uri) and _WILDCARD.search(uri)
        else ""
    )
    return (
        f"{quoted(uri, MAX_LOCATION)}: there are no pictures here; looked for names that end in "
        f"{', '.join(PICTURE_SUFFIXES)} in any letter case, hidden files left out{wildcards}"
    )
