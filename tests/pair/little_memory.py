"""A worker process that may take only so much memory: the program that test_running_out runs.

``python little_memory.py PICTURES FORESIGHT``: it runs a batch of four pairs, once the limit on its address
space leaves room for so many pictures (by their projected bytes). FORESIGHT is ``foresight``, or ``blind``
for a worker that does not know what there is until an allocation fails.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import resource

from inmemory import MemoryStore, picture_bytes

from stylebatch.layout import Layout
from stylebatch.pair import making, memory
from stylebatch.pair.batch import BatchRunner
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.synthesis.projection import batch_bytes
from stylebatch.work import Task

WIDTH, HEIGHT = 160, 120
RECIPE = Recipe(
    size=WIDTH,
    iterations=1,
    start="content",
    style_size=32,
    content_layers=("conv2_2",),
    style_layers=("conv1_1", "conv2_1"),  # below the layers that share large filters: half as many take half
)


def tasks(unit: int, recipe: Recipe) -> list[Task]:
    return [Task(Pair(f"p{row}", row, f"/in/{row}.png", ("/in/s.png",), recipe), unit) for row in range(4)]


def limit_memory(room: int) -> None:
    """Leave this many bytes of address space, with what is free within what the process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    used = pages * resource.getpagesize() - memory._freed_bytes()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))


def main(pictures: str, foresight: str) -> None:
    """Run the batch; what became of it goes to standard output."""
    names = {**{f"{row}.png": (WIDTH, HEIGHT) for row in range(4)}, "s.png": (32, 32)}
    store = MemoryStore({f"/in/{name}": picture_bytes(*size, 1) for name, size in names.items()})
    reasons: list[str] = []
    making.spoils_thread = lambda reason: (reasons.append(reason), memory.spoils_thread(reason))[1]
    if foresight == "blind":
        making.available_bytes = memory.available_bytes = lambda device: None
    with ThreadPoolExecutor(1) as compute:
        runner = BatchRunner(store, Layout("/out"), "cpu", compute)
        runner.run(tasks(0, RECIPE.replace({"size": 32})))  # loads and starts what every batch needs
        limit_memory(int(float(pictures) * batch_bytes(RECIPE, HEIGHT, WIDTH)))
        outcomes = runner.run(tasks(1, RECIPE))
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        again = runner.run(tasks(2, RECIPE)[:1])
    told = {
        "rows": [outcome.row for outcome in sorted(outcomes, key=lambda one: one.task.pair.row)],
        "notices": [notice for outcome in outcomes for notice in outcome.notices],
        "reasons": reasons,
        "again": [outcome.row and outcome.row["status"] for outcome in again],
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
