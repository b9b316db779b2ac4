"""Small jobs over a store in memory."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inmemory import MemoryStore, make_manifest

from stylebatch.job import Job
from stylebatch.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not make simulated importable

OUTPUT = "s3://bucket/out"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def make_job(store: MemoryStore) -> Callable[..., Job]:
    """``make_job(rows=5, unit_size=2, recipe=..., columns={}, **parquet)``: pairs p0, p1, ..."""

    def make(rows: int = 5, unit_size: int = 2, **changes: Any) -> Job:
        columns = {
            "pair_id": [f"p{i}" for i in range(rows)],
            "content": [f"c{i}.png" for i in range(rows)],
            "style": ["s.png"] * rows,
            **changes.pop("columns", {}),
        }
        recipe = changes.pop("recipe", Recipe(size=48, iterations=3))
        weights = changes.pop("weights_sha256", "a" * 64)
        return Job(make_manifest(store, columns, **changes), recipe, OUTPUT, weights, unit_size)

    return make
