"""The file of the weights that a recipe names: located, or fetched once per machine. Imports no torch."""

import hashlib
import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from stylebatch.errors import StorageError, StorageUnavailableError, WeightsError
from stylebatch.objectstore import ObjectStore, is_s3, resolve_uri
from stylebatch.recipe import Recipe
from stylebatch.synthesis.archives import MAX_WEIGHTS_BYTES
from stylebatch.synthesis.families import bundled_weights

UNFINISHED = "unfinished-"
"""How the name of a file begins that is being written."""
ABANDONED_AFTER = 3600
"""Seconds after which nobody can still be writing such a file."""


def locate_weights(recipe: Recipe, store: ObjectStore) -> Path:
    """The local file of the weights that a recipe names.

    ``caffe`` is the bundled file; ``torchvision`` is in torch's own cache, downloaded if need be; a path is
    itself; an ``s3://`` object is fetched into a folder of this machine the first time.

    Raises:
        WeightsError: The file is not there, cannot be fetched, or there is no safe place for it.
        StorageUnavailableError: The storage does not answer now.
    """
    match recipe.weights:
        case "caffe":
            return bundled_weights()
        case "torchvision":
            from stylebatch.synthesis.weights import torchvision_weights

            return torchvision_weights()
    try:
        uri = resolve_uri(recipe.weights)
        return _fetched(uri, store) if is_s3(uri) else Path(uri)
    except StorageUnavailableError:
        raise
    except StorageError as error:
        raise WeightsError(f"the weights cannot be fetched: {error}") from error
    except OSError as error:
        raise WeightsError(f"the weights {recipe.weights} cannot be kept on this machine: {error}") from error


def _fetched(uri: str, store: ObjectStore) -> Path:
    """The machine's copy of this version of an object; it appears whole or not at all."""
    name = hashlib.sha256(f"{uri} {store.version(uri)}".encode()).hexdigest()
    folder = _private_folder()
    path = folder / name
    if not path.exists():
        data = store.get_range(uri, 0, MAX_WEIGHTS_BYTES + 1)
        if len(data) > MAX_WEIGHTS_BYTES:
            raise WeightsError(f"{uri} has more than {MAX_WEIGHTS_BYTES} bytes, the most that weights have")
        _forget_abandoned(folder)
        _write_whole(path, data)
    return path


def _private_folder() -> Path:
    """A folder below the temporary one that nobody else can write to, or read.

    Its name can be foretold, and anybody may make a folder there first: whoever owned it could put other
    weights into it.
    """
    folder = Path(tempfile.gettempdir(), f"stylebatch-weights-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise WeightsError(
            f"{folder} is not a folder that belongs to this user alone, so no weights are kept there; "
            "remove it, or set TMPDIR to another place"
        )
    return folder


def _write_whole(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=UNFINISHED, delete=False) as file:
        unfinished = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def _forget_abandoned(folder: Path) -> None:
    """Remove what processes that were killed while they wrote have left."""
    for path in folder.glob(f"{UNFINISHED}*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                path.unlink()
