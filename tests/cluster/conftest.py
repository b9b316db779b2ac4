"""Candidates and tasks by number."""

from collections.abc import Callable
from typing import Any

import pytest

from stylebatch.cluster.schedule import Candidate
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.work import Task

RECIPE = Recipe(size=48, iterations=3)


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """``make_task(number, *styles, content=..., recipe=..., attempt=1)``."""

    def make(number: int, *styles: str, **changes: Any) -> Task:
        content = changes.pop("content", f"/c{number}.png")
        pair = Pair(f"p{number}", number, content, styles, changes.pop("recipe", RECIPE))
        return Task(pair, unit=0, **changes)

    return make


@pytest.fixture
def make_candidate(make_task: Callable[..., Task]) -> Callable[..., Candidate]:
    """``make_candidate(number, *styles, group="g", largest_batch=1, is_suspect=False, ...)``."""

    def make(
        number: int, *styles: str, group: str = "g", largest_batch: int = 1, **changes: Any
    ) -> Candidate:
        task = make_task(number, *styles, attempt=changes.pop("attempt", 1))
        return Candidate(task, group, largest_batch, **changes)

    return make
