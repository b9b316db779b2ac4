"""A worker process that makes one batch and tells its peak of memory: the program that test_memory runs.

``python peak_memory.py WIDTH HEIGHT PICTURES [FIELD=VALUE ...]`` prints the most memory that the process ever
had, by how much it grew during the synthesis, and what was projected of both, in bytes.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

from inmemory import MemoryStore, picture_bytes

import stylebatch.cluster.worker  # noqa: F401 - what a worker has loaded counts
from stylebatch.layout import Layout
from stylebatch.pair import making
from stylebatch.pair.batch import BatchRunner
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.recipe_text import parse_fields
from stylebatch.synthesis.projection import batch_bytes, projected_bytes
from stylebatch.work import Task


class Watch:
    """Stands between a worker and its synthesis, and notes how large the process is before and at most."""

    def __init__(self) -> None:
        self.before = self.peak = 0
        self._synthesize = making.synthesize

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Synthesize."""
        self.peak = memory("VmHWM")
        self.before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        return self._synthesize(*arguments, **named)


def memory(name: str) -> int:
    """Of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main(width: str, height: str, pictures: str, *settings: str) -> None:
    """Run the batch and print both numbers."""
    size = int(width), int(height)
    fields = parse_fields(dict(setting.split("=", 1) for setting in settings))
    recipe = Recipe(**{"size": max(size), "start": "content", "iterations": 8, "history": 6} | fields)
    style, *names = [f"/in/{number}.png" for number in range(int(pictures) + 1)]
    store = MemoryStore({name: picture_bytes(*size, seed) for seed, name in enumerate([style, *names])})
    tasks = [Task(Pair(f"p{row}", row, name, (style,), recipe), 0) for row, name in enumerate(names)]
    watch = making.synthesize = Watch()
    with ThreadPoolExecutor(1) as compute:
        outcomes = BatchRunner(store, Layout("/out"), "cpu", compute).run(tasks)
    assert all(outcome.row and outcome.row["status"] == "ok" for outcome in outcomes)
    peak, shape = memory("VmHWM"), (size[1], size[0], len(names))
    measured = {"process": max(watch.peak, peak), "synthesis": peak - watch.before}
    projected = {"process": projected_bytes(recipe, *shape), "synthesis": batch_bytes(recipe, *shape)}
    json.dump({"measured": measured, "projected": projected}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
