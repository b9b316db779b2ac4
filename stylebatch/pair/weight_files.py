"""The file of the weights that a recipe names: located, or fetched once per machine. Imports no torch."""

import getpass
import hashlib
import tempfile
from pathlib import Path

from stylebatch.errors import StorageError, StorageUnavailableError, WeightsError
from stylebatch.objectstore import ObjectStore, is_s3, resolve_uri
from stylebatch.recipe import Recipe
from stylebatch.synthesis.families import bundled_weights


def locate_weights(recipe: Recipe, store: ObjectStore) -> Path:
    """The local file of the weights that a recipe names.

    ``caffe`` is the bundled file; ``torchvision`` is in torch's own cache, downloaded if need be; a path is
    itself; an ``s3://`` object is fetched into a folder of this machine the first time.

    Raises:
        WeightsError: The file is not there or cannot be fetched.
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


def _fetched(uri: str, store: ObjectStore) -> Path:
    """The machine's copy of this version of an object; it appears whole or not at all."""
    name = hashlib.sha256(f"{uri} {store.version(uri)}".encode()).hexdigest()
    path = Path(tempfile.gettempdir(), f"stylebatch-{getpass.getuser()}", "weights", name)
    if not path.exists():
        data = store.get(uri)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        Path(file.name).replace(path)
    return path
