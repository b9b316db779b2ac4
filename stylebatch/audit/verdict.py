"""What verifying an output was told, and what it came to."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from stylebatch.audit.remaking import Remade
from stylebatch.pictures import DEFAULT_MAX_PIXELS


@dataclass(frozen=True)
class VerifyOptions:
    """How an output is verified."""

    resynthesize: int = 3
    """Pairs that are made again."""
    seed: int = 0
    """Decides which ones."""
    device: str = "cpu"
    """A torch device."""
    threads: int = 1
    """Of torch, as the workers had."""
    max_pixels: int = DEFAULT_MAX_PIXELS
    """Of a source image."""


@dataclass(frozen=True)
class Problem:
    """Something that is not as the table says."""

    where: str
    """A pair's id, or the name of a file of the output."""
    what: str
    """A clause: what differs, with the values."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass
class Verdict:
    """What verifying came to; the table is true if there are no problems."""

    rows: int
    """Of the job."""
    units: int
    """Of the job."""
    finished_units: int
    """Those that have a part."""
    is_complete: bool = False
    """Whether ``_SUCCESS`` is there."""
    ok: int = 0
    """Rows with a picture."""
    failed: int = 0
    """Rows without, which are passed over."""
    recomputed: int = 0
    """Pictures whose losses were computed anew."""
    largest_difference: float = 0.0
    """Of a layer's loss that was taken for the same, relative."""
    problems: int = 0
    """How many were reported."""
    not_compared: str = ""
    """Why the experiment's own columns could not be compared with the manifest; empty if they were."""
    remade: list[Remade] = field(default_factory=list)
    """The pairs that were made again."""


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """What verifying came to, for people; the problems were told as they were found."""
    state = "finished" if verdict.is_complete else "not finished"
    yield (
        f"{verdict.ok + verdict.failed} of {verdict.rows} rows in {verdict.finished_units} of "
        f"{verdict.units} parts ({state}): {verdict.ok} ok, {verdict.failed} failed and passed over."
    )
    if verdict.recomputed:
        yield (
            f"Losses of {verdict.recomputed} pictures computed anew; those that agree differ by at most "
            f"{verdict.largest_difference:.1g} of a layer's loss."
        )
    if verdict.not_compared:
        yield f"The experiment's own columns were NOT compared with the manifest: {verdict.not_compared}."
    yield from (_remade_line(remade) for remade in verdict.remade if remade.problem is None)
    if verdict.problems:
        yield f"The table is NOT true: {verdict.problems} problems."
    else:
        yield "The table is true: no problem."


def _remade_line(remade: Remade) -> str:
    made_with = f" (made with {', '.join(remade.reasons)})" if remade.reasons else ""
    if remade.is_same:
        return f"Made again: {remade.pair_id}: the same bytes{made_with}."
    unexplained = "" if made_with else "; the workers may have had another number of --threads, or processor"
    return (
        f"Made again: {remade.pair_id}: other bytes{made_with}, the loss within "
        f"{remade.loss_difference:.2g} of the table's, as conventions.md allows{unexplained}."
    )
