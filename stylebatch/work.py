"""What travels between driver and workers: small, and never a pixel."""

from dataclasses import dataclass
from typing import Any

import stylebatch
from stylebatch.pairs import Pair

Facts = dict[str, Any]
"""Columns of a result row, by name."""


@dataclass(frozen=True)
class Task:
    """A pair to work on."""

    pair: Pair
    """The pair."""
    unit: int
    """The unit that its row belongs to."""
    attempt: int = 1
    """1 for the first."""
    has_checkpoint: bool = False
    """Whether another run of the pair may have stored where it stood, or even have committed the pair."""


@dataclass(frozen=True)
class Spent:
    """What a worker has spent since it last said so, on whatever it had to do."""

    fetch_seconds: float = 0.0
    """Fetching, decoding and sizing images, added up over threads."""
    synthesize_seconds: float = 0.0
    """Measuring targets and synthesizing, one batch after the other."""
    publish_seconds: float = 0.0
    """Encoding and storing pictures and records, added up over threads."""
    bytes_read: int = 0
    """From the storage: images, checkpoints, weights."""
    bytes_written: int = 0
    """To the storage: pictures, records, checkpoints."""


@dataclass(frozen=True)
class Outcome:
    """How one attempt at a pair ended."""

    task: Task
    """The pair."""
    row: Facts | None = None
    """The result row; None if another attempt had committed the pair already."""
    can_retry: bool = False
    """Whether the failure may go away by itself."""
    stops_job: bool = False
    """Whether every other pair would fail the same way."""
    notices: tuple[str, ...] = ()
    """What the user should be told besides: a damaged checkpoint, a batch that was halved."""
    spent: Spent | None = None
    """What the worker has spent, in one outcome of each batch; the others carry None."""


@dataclass(frozen=True)
class Activity:
    """What a worker is doing."""

    stage: str = "idle"
    """``loading weights``, ``synthesizing``, ``idle``."""
    pair_ids: tuple[str, ...] = ()
    """The pairs of the batch that is being synthesized."""
    evaluations: int = 0
    """Done for them."""
    iterations: int = 0
    """The most there will be."""
    progress: int = 0
    """Grows with everything that it does: an image fetched, an evaluation, a picture stored."""


def source_facts(pair: Pair) -> Facts:
    """The pair as its result row names it."""
    return {"pair_id": pair.pair_id, "row": pair.row, "content": pair.content, "style": list(pair.styles)}


def failed_row(pair: Pair, error_type: str, message: str, attempts: int) -> Facts:
    """The result row of a pair that has no picture."""
    return {
        **source_facts(pair),
        **pair.recipe.to_dict(),
        "recipe_sha256": pair.recipe.fingerprint,
        "status": "failed",
        "attempts": attempts,
        "error_type": error_type,
        "error": message,
        "stylebatch_version": stylebatch.__version__,
    }
