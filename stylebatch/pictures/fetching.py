"""The whole file of a picture, as long as it is one that anybody would make."""

from stylebatch.errors import PictureError
from stylebatch.objectstore import ObjectStore

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
