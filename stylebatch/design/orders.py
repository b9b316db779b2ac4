"""In which order each participant sees the stimuli.

A Latin square has each condition once in every row and once at every place. A Williams square has besides
each condition directly after each other one equally often; with an odd number of conditions it takes two
squares, each the other's mirror image.
See Williams (1949), Australian Journal of Scientific Research A 2, 149-168.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from stylebatch.design.entries import REQUIRED, Entry
from stylebatch.design.factors import Factor
from stylebatch.design.seeds import draw, shuffled
from stylebatch.design.stimulus import Stimulus
from stylebatch.errors import DesignError

MOST_PARTICIPANTS = 10_000
MOST_TRIALS = 2_000_000
"""Of all participants."""
ORDERS = ("latin-square", "blocked", "seeded")
FOIL_BLOCK = "(foils)"
"""The block of the foils that belong to no level of the factor that makes the blocks."""
ALL_BLOCK = "all"
"""The block of everything, where nothing makes blocks."""


@dataclass(frozen=True)
class Participants:
    """Who sees the stimuli, and how their orders are made."""

    count: int
    """How many."""
    order: str
    """``latin-square``: each replicate by rows of a Williams square; ``blocked``: blocks by rows of one,
    drawn orders within; ``seeded``: drawn orders."""
    blocks: str | None
    """The factor whose levels are shown one after another, in the order of a row of a Williams square."""


@dataclass(frozen=True)
class Run:
    """What one participant sees in a row, ordered by one row of a square or by one draw."""

    participant: int
    """From 1."""
    block: str
    """A level's label, ``(foils)`` or ``all``."""
    number: int
    """Of the run within the block, from 1."""
    pair_ids: tuple[str, ...]
    """In order."""


def read_participants(entry: Entry, factors: Sequence[Factor]) -> Participants | None:
    """The participants of a design, if it has any.

    Raises:
        DesignError: A key is missing or has a value that is not allowed.
    """
    if entry.value is None:
        return None
    keys = entry.keys({"count": REQUIRED, "order": REQUIRED, "blocks": None})
    order = keys["order"].choice(*ORDERS)
    names = [factor.name for factor in factors]
    blocks = None if keys["blocks"].value is None else keys["blocks"].choice(*names)
    if (order == "blocked" and blocks is None) or (order == "seeded" and blocks is not None):
        raise keys["blocks"].refusal(
            "left out with order seeded (order blocked has drawn orders within blocks)"
            if order == "seeded"
            else f"a factor, with order blocked: one of {', '.join(names)}"
        )
    return Participants(keys["count"].whole(1, MOST_PARTICIPANTS), order, blocks)


def make_orders(participants: Participants, stimuli: Sequence[Stimulus], seed: int) -> list[Run]:
    """Every participant's runs, in order.

    Which condition stands for which of a square's symbols, and who gets which of its rows, is drawn. Of two
    mirrored squares, the rows of one are given away before those of the other.

    Args:
        participants: Who, and how.
        stimuli: What everyone sees once.
        seed: The design's.

    Raises:
        DesignError: There are too many trials.
    """
    trials = participants.count * len(stimuli)
    if trials > MOST_TRIALS:
        raise DesignError(
            f"participants: {participants.count:,} of them with {len(stimuli):,} stimuli each are "
            f"{trials:,} trials; at most {MOST_TRIALS:,} are ordered"
        )
    blocks = _blocks(participants, stimuli)
    return [
        run
        for participant in range(participants.count)
        for block in _by_square([*blocks], participant, seed, "blocks")
        for run in _runs(participants, participant, block, blocks[block], seed)
    ]


def _blocks(participants: Participants, stimuli: Sequence[Stimulus]) -> dict[str, list[Stimulus]]:
    blocks: dict[str, list[Stimulus]] = {}
    for stimulus in stimuli:
        factor = participants.blocks
        block = ALL_BLOCK if factor is None else stimulus.levels[factor] or FOIL_BLOCK
        blocks.setdefault(block, []).append(stimulus)
    return blocks


def _runs(
    participants: Participants, participant: int, block: str, stimuli: Sequence[Stimulus], seed: int
) -> Iterator[Run]:
    """A block's runs: one for each replicate with Latin squares, otherwise one."""
    if participants.order != "latin-square":
        pair_ids = [stimulus.pair_id for stimulus in stimuli]
        order = shuffled(pair_ids, seed, "order", participant + 1, block)
        yield Run(participant + 1, block, 1, tuple(order))
        return
    for replicate in sorted({stimulus.replicate for stimulus in stimuli}):
        pair_ids = [stimulus.pair_id for stimulus in stimuli if stimulus.replicate == replicate]
        order = _by_square(pair_ids, participant, seed, f"{block} {replicate}")
        yield Run(participant + 1, block, replicate, tuple(order))


def _by_square(items: Sequence[str], participant: int, seed: int, purpose: str) -> list[str]:
    """The items in the order of the row of a Williams square that is this participant's."""
    symbols = shuffled(items, seed, "symbols", purpose)
    turn, place = divmod(participant, square_rows(len(items)))
    row = _rows_in_turn(len(items), seed, purpose, turn)[place]
    return [symbols[symbol] for symbol in williams_row(len(items), row)]


@lru_cache(256)
def _rows_in_turn(count: int, seed: int, purpose: str, turn: int) -> list[int]:
    """The rows of a square in the order in which participants get them, another in every turn."""
    rows = sorted(range(count), key=lambda row: draw(seed, "rows", purpose, turn, row))
    if square_rows(count) <= count:
        return rows
    mirrored = range(count, 2 * count)
    return rows + sorted(mirrored, key=lambda row: draw(seed, "rows", purpose, turn, row))


def square_rows(count: int) -> int:
    """How many rows a Williams square has: as many as conditions, or twice as many if they are odd."""
    return count if count % 2 == 0 or count == 1 else 2 * count


def williams_row(count: int, row: int) -> list[int]:
    """One row of a Williams square.

    Args:
        count: How many conditions there are, at least 1.
        row: From 0 to :func:`square_rows` - 1; from ``count`` on, rows of the mirrored square.

    Returns:
        Each number from 0 to ``count - 1`` once.
    """
    zigzag = [
        (place + 1) // 2 if place % 2 else -(place // 2) for place in range(count)
    ]  # 0, 1, -1, 2, -2 ...
    if row >= count:
        zigzag.reverse()
    return [(step + row) % count for step in zigzag]
