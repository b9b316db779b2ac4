"""Places to store things: a local folder, a real S3 server, and a stub that fails as it is told."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not make these importable

from places import Place
from s3server import show_only_server
from s3stub import S3Stub, Time, running_stub

from stylebatch.storage import LocalStore, S3Store, UriStore


@pytest.fixture(params=["local", "s3", "uri"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        return Place(S3Store(), request.getfixturevalue("s3_bucket") + "/some/folder")
    return Place(LocalStore() if request.param == "local" else UriStore(), str(tmp_path))


@pytest.fixture
def uri(place: Place) -> str:
    return f"{place.folder}/images/000042/cät 1.png"


@pytest.fixture
def time() -> Time:
    """Time that only pauses make pass."""
    return Time()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Stub]:
    """A stub, and an environment in which AWS programs find it and nothing else."""
    with running_stub() as (stub, endpoint):
        show_only_server(monkeypatch, endpoint, "stylebatch-test", "a-secret")
        yield stub
