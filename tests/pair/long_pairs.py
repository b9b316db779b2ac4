"""A worker process with one batch of three pairs, which may be killed: the program that test_resuming runs.

``python long_pairs.py FOLDER [EVALUATIONS [PUTS]]`` works in a folder; every evaluation has a checkpoint.
It kills itself after so many evaluations; or, if PUTS is given, in the middle of writing a checkpoint, when
it has written so many more after them.
"""

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

from inmemory import picture_bytes

from stylebatch.layout import Layout
from stylebatch.pair.batch import BatchRunner
from stylebatch.pair.monitor import Monitor
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.storage import LocalStore
from stylebatch.work import Task

SIZES = {"c": (64, 48), "d": (64, 48), "s": (40, 40), "t": (80, 40)}
PAIRS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("c", "s", {"start": "content", "style_weight": 1.0}),  # stops early, by its tolerance
    ("d", "t", {"seed": 2, "tv_weight": 10.0}),
    (
        "c",
        "t",
        {"start": "content", "convention": "neural-style", "content_weight": 5.0, "style_weight": 100.0},
    ),
)
SHARED = {"size": 32, "iterations": 40, "history": 12, "tolerance": 0.3}


def make_tasks(folder: str, attempt: int = 1, **shared: Any) -> list[Task]:
    """The pairs of the batch, whose pictures are in a folder."""
    return [
        Task(
            Pair(
                f"p{row}",
                row,
                f"{folder}/{content}.png",
                (f"{folder}/{style}.png",),
                Recipe(**{**SHARED, **recipe, **shared}),
            ),
            unit=0,
            attempt=attempt,
        )
        for row, (content, style, recipe) in enumerate(PAIRS)
    ]


def pictures() -> dict[str, bytes]:
    """Files by name."""
    return {f"{name}.png": picture_bytes(*size, seed) for seed, (name, size) in enumerate(SIZES.items())}


class Death:
    """Kills this process at its moment."""

    def __init__(self, evaluations: int, puts: int | None) -> None:
        self.evaluations = evaluations
        self.puts_left = puts
        self.is_near = False

    def after_evaluation(self, evaluations: int) -> None:
        if evaluations == self.evaluations:
            self.is_near = True
            if self.puts_left is None:
                kill()

    def in_put(self, uri: str, data: bytes) -> None:
        """Half of the file is on the disk when death comes."""
        if self.is_near and self.puts_left is not None:
            if self.puts_left == 0:
                Path(uri).with_name(".stylebatch-0123.tmp").write_bytes(data[: len(data) // 2])
                kill()
            self.puts_left -= 1


def kill() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class MortalStore(LocalStore):
    death: Death

    def put(self, uri: str, data: bytes) -> None:
        if uri.endswith(".ckpt"):
            self.death.in_put(uri, data)
        super().put(uri, data)


def main(folder: str, evaluations: str = "0", puts: str | None = None) -> None:
    """Run the batch; the rows go to standard output."""
    store = MortalStore()
    store.death = Death(int(evaluations), None if puts is None else int(puts))
    with ThreadPoolExecutor(1) as compute:
        runner = BatchRunner(
            store, Layout(f"{folder}/out"), "cpu", compute, checkpoint_seconds=0, clock=lambda: 0.0
        )
        real = Monitor.evaluated

        def evaluated(monitor: Monitor, done: int) -> None:
            runner._keeper.background.submit(int).result()  # no checkpoint is left out
            store.death.after_evaluation(done)
            real(monitor, done)

        Monitor.evaluated = evaluated  # type: ignore[method-assign]
        has_begun = Path(folder, "out").exists()
        outcomes = runner.run(make_tasks(folder, attempt=1 + has_begun))
    rows = sorted((outcome.row or {} for outcome in outcomes), key=lambda row: row["row"])
    json.dump({"rows": rows, "notices": [outcome.notices for outcome in outcomes]}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
