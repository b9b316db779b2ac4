"""A finished output in memory, made once."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not make it importable

from audit_outputs import COLUMNS, FOLDER, OUTPUT, RECIPE, real_network, sources
from finishedjob import finish_job
from inmemory import MemoryStore

from stylebatch.pair import making


@pytest.fixture(autouse=True)
def _one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real VGG-19, read once for all tests."""
    monkeypatch.setattr(making, "load_network", lambda *_: real_network())


@pytest.fixture(scope="session")
def finished_objects() -> Iterator[dict[str, bytes]]:
    """Everything that the finished job has stored, and its sources."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "load_network", lambda *_: real_network())
        store = MemoryStore(sources())
        finish_job(store, f"{FOLDER}/pairs.parquet", OUTPUT, COLUMNS, RECIPE)
        yield store.objects


@pytest.fixture
def store(finished_objects: dict[str, bytes]) -> MemoryStore:
    """A store of one's own with the finished output."""
    return MemoryStore(finished_objects)
