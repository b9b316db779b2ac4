"""Make a pair again, exactly as a worker does, and compare what comes out; nothing is written."""

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import stylebatch
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectStore, StoredObject
from stylebatch.pair.batch import BatchRunner
from stylebatch.pairs import Pair
from stylebatch.quoting import shown
from stylebatch.work import Task

OF_THE_WAY = (
    *("evaluations", "smaller_evaluations", "stop_reason", "loss_curve", "loss_change", "solver_loss"),
    *("clipped_fraction", "adjusted_clipped_fraction"),
)
"""Columns that say how a picture came about; an array file does not say so inside."""
WAY_TOLERANCE = 0.01
"""How far their numbers may be apart, relative, where bytes are the same: the table tells no threads."""
LOSS_TOLERANCE = 0.1
"""Of the loss: how far two syntheses of one recipe may be apart whose bytes differ (docs/conventions.md)."""


class ReadingStore:
    """A store that lets everything be read, and keeps nothing of what is put.

    Args:
        store: What is read.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def get(self, uri: str) -> bytes:
        """The whole object. Raises NotFoundError."""
        return self._store.get(uri)

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes from byte ``start``; fewer at the end. Raises NotFoundError."""
        return self._store.get_range(uri, start, length)

    def size(self, uri: str) -> int:
        """The object's length in bytes. Raises NotFoundError."""
        return self._store.size(uri)

    def version(self, uri: str) -> str:
        """A text that changes when the object does. Raises NotFoundError."""
        return self._store.version(uri)

    def age(self, uri: str) -> float:
        """Seconds since the object was stored, by the storage's own clock. Raises NotFoundError."""
        return self._store.age(uri)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below the folder ``prefix``, at any depth, in order of URI."""
        return self._store.list(prefix)

    def put(self, uri: str, data: bytes) -> None:
        """Nothing is stored."""

    def put_file(self, uri: str, path: Path) -> None:
        """Nothing is stored."""

    def copy(self, source: str, destination: str) -> None:
        """Nothing is stored."""

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """True, and nothing is stored."""
        return True

    def put_if_version(self, uri: str, data: bytes, version: str) -> str | None:
        """The same version, and nothing is stored."""
        return version

    def has_conditional_puts(self, folder: str) -> bool:
        """True: every put ends the same way."""
        return True

    def unconditional(self) -> "ReadingStore":
        """Itself."""
        return self

    def delete(self, uri: str) -> None:
        """Nothing is removed."""

    def sweep(self, folder: str, older_than: float) -> None:
        """Nothing is removed."""


@contextmanager
def runner(store: ObjectStore, output: str, device: str, threads: int) -> Iterator[BatchRunner]:
    """What runs pairs as a worker of so many torch threads would, without storing anything."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    compute = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))
    try:
        yield BatchRunner(ReadingStore(store), Layout(output), device, compute, checkpoint_seconds=None)
    finally:
        compute.shutdown()
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Remade:
    """A pair that was made again."""

    pair_id: str
    """Its name."""
    is_same: bool
    """Whether the file came out the same, byte for byte."""
    loss_difference: float
    """Of the loss, relative; 0 where the bytes are the same."""
    reasons: tuple[str, ...]
    """Why other bytes may be expected; empty if nothing that the table holds explains them."""
    problem: str | None
    """What is wrong; None if nothing is."""


def make_again(own: BatchRunner, row: Mapping[str, Any], pair: Pair, unit: int, device: str) -> Remade:
    """Make the picture of a result row again, alone.

    Args:
        own: From :func:`runner`.
        row: The result row.
        pair: Its pair.
        unit: Its unit.
        device: That of the runner.
    """
    reasons = tuple(_reasons(row, device))
    (outcome,) = own.run([Task(pair, unit)])
    made = outcome.row or {}
    if made.get("status") != "ok":
        return Remade(pair.pair_id, False, 0.0, reasons, f"made again, it fails: {made.get('error')}")
    if made["image_sha256"] == row["image_sha256"]:
        return Remade(pair.pair_id, True, 0.0, reasons, None if reasons else _way_problem(row, made))
    difference = _difference(row["loss"], made["loss"])
    problem = None
    if not difference <= LOSS_TOLERANCE:
        problem = (
            f"made again, its loss is {made['loss']:.7g} and in the table {row['loss']:.7g}: they differ by "
            f"{difference:.2g} of it, which is more than {LOSS_TOLERANCE}"
        )
    return Remade(pair.pair_id, False, difference, reasons, problem)


def _way_problem(row: Mapping[str, Any], made: Mapping[str, Any]) -> str | None:
    """What the table says otherwise of how the same picture came about; None if nothing."""
    wrong = [name for name in OF_THE_WAY if name in row and not _agrees(row[name], made[name])]
    told = ", ".join(f"{name} is {shown(made[name])} and in the table {shown(row[name])}" for name in wrong)
    return f"made again to the same bytes, its {told}" if wrong else None


def _agrees(told: Any, made: Any) -> bool:
    if isinstance(told, list | tuple) and isinstance(made, list | tuple):
        return len(told) == len(made) and all(map(_agrees, told, made))
    if isinstance(told, float) and isinstance(made, float):
        return math.isclose(told, made, rel_tol=WAY_TOLERANCE) or (math.isnan(told) and math.isnan(made))
    return bool(told == made)


def _difference(told: float | None, made: float | None) -> float:
    if told is None or made is None:
        return 0.0 if told is made else float("inf")
    return abs(told - made) / abs(told) if told else abs(made)


def _reasons(row: Mapping[str, Any], device: str) -> Iterator[str]:
    """What was otherwise when the row was made, and changes the last digits."""
    if row["batch"] != 1:
        yield f"a batch of {row['batch']}"
    now = {
        "device": device,
        "torch_version": str(torch.__version__),
        "stylebatch_version": stylebatch.__version__,
    }
    for name, value in now.items():
        if row[name] != value:
            yield f"{name} {row[name]}"
