"""Finding out whether a storage refuses the conditional puts that it must refuse."""

from stylebatch.errors import ConfigurationError, NotFoundError
from stylebatch.objectstore import ObjectStore, join_uri
from stylebatch.storage.hidden import temporary_name

NO_VERSION = '"00000000000000000000000000000000"'
"""A version that no object has, in the form of an ETag, since some servers refuse any other."""


def holds_conditions(store: ObjectStore, folder: str) -> bool:
    """Whether conditional puts below this folder hold, by trying them on an object that is then removed.

    They are tried again where they seem not to: the driver that works there may have swept the object away.

    Raises:
        StorageError: The folder cannot be written to.
    """
    return _hold_on_one_object(store, folder) or _hold_on_one_object(store, folder)


def _hold_on_one_object(store: ObjectStore, folder: str) -> bool:
    uri = join_uri(folder, temporary_name())
    try:
        holds = store.put_if_absent(uri, b"first") and _is_guarded(store, uri)
    except (ConfigurationError, NotFoundError):  # not implemented, or swept away
        holds = False  # a storage that cannot be used at all fails again below
    store.delete(uri)
    return holds


def _is_guarded(store: ObjectStore, uri: str) -> bool:
    return (
        not store.put_if_absent(uri, b"second")
        and store.put_if_version(uri, b"third", NO_VERSION) is None
        and store.put_if_version(uri, b"fourth", store.version(uri)) is not None
    )
