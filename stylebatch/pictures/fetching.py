"""The file of a picture, its beginning or all of it, as long as it is one that anybody would make."""

from contextlib import AbstractContextManager, nullcontext

from stylebatch.errors import PictureError
from stylebatch.objectstore import ObjectStore
from stylebatch.pictures.headers import header_size

HEADER_BYTES = 64 * 1024
"""Enough for the header of nearly every picture file."""
MAX_FILE_BYTES = 1 << 30
"""Of a picture's file; no more is fetched, whatever the storage says that there is."""


def fetch(store: ObjectStore, uri: str) -> bytes:
    """A picture's file, in one request.

    Raises:
        StorageError: It cannot be fetched.
        PictureError: It is longer than :data:`MAX_FILE_BYTES`.
    """
    data = store.get_range(uri, 0, MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise PictureError(
            f"{uri} is a file of more than {MAX_FILE_BYTES >> 20} MB, which is not fetched; save the "
            "picture smaller, or compressed"
        )
    return data


def stored_size(
    store: ObjectStore, uri: str, turn: AbstractContextManager[object] | None = None
) -> tuple[int, int]:
    """Width and height of the upright picture, from the first bytes of its file if those say so.

    Args:
        store: Where it is.
        uri: Its canonical URI.
        turn: Is held while a whole file is in memory; None: nothing is.

    Raises:
        StorageError: It cannot be fetched.
        PictureError: It is no picture.
    """
    try:
        return header_size(store.get_range(uri, 0, HEADER_BYTES), uri)
    except PictureError:
        with turn or nullcontext():
            return header_size(fetch(store, uri), uri)
