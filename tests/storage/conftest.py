"""Places to store things: a local folder, a real S3 server, and a stub that fails as it is told."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not make these importable

from places import Place
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
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with running_stub() as (stub, endpoint):
        settings = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "stylebatch-test",
            "AWS_SECRET_ACCESS_KEY": "a-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield stub
