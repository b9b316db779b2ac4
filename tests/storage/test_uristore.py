"""One store for every URI that the program meets."""

import pickle
from pathlib import Path

import pytest
from places import DATA, OPERATIONS
from s3stub import S3Stub

from stylebatch.errors import NotFoundError
from stylebatch.storage import S3Store, UriStore


@pytest.mark.parametrize("is_conditional", [True, False])
def test_every_operation_goes_where_its_uri_points(
    s3_bucket: str, tmp_path: Path, is_conditional: bool
) -> None:
    store = pickle.loads(pickle.dumps(UriStore() if is_conditional else UriStore().unconditional()))
    for folder in (s3_bucket, str(tmp_path)):
        uri = f"{folder}/a"
        store.put(uri, DATA)
        assert store.put_if_absent(uri, b"") is False
        assert store.get_range(uri, 1, 2) == DATA[1:3]
        assert store.size(uri) == len(DATA)
        assert store.age(uri) < 60
        version = store.put_if_version(uri, b"new", store.version(uri))
        assert version == store.version(uri)
        assert [found.uri for found in store.list(folder)] == [uri]
        assert store.get(uri) == b"new"
        assert store.has_conditional_puts(folder) is is_conditional
        store.sweep(folder, 0)
        store.delete(uri)
    assert [*tmp_path.iterdir()] == []
    assert [*S3Store().list(s3_bucket)] == []


@pytest.mark.parametrize("operation", ["get", "size", "version", "age"])
def test_errors_name_the_place_that_was_asked(stub: S3Stub, tmp_path: Path, operation: str) -> None:
    for uri in ("s3://bucket/key", f"{tmp_path}/key"):
        with pytest.raises(NotFoundError, match=uri):
            OPERATIONS[operation](UriStore(), uri)
