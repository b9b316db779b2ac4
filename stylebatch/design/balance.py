"""What a design balances and what it confounds: counts, and how much one factor tells of another."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stylebatch.design.crossing import Combination
from stylebatch.design.factors import Factor
from stylebatch.design.fractions import Fraction
from stylebatch.design.orders import Participants, Run, square_rows
from stylebatch.design.stimulus import Stimulus

SMALLEST_STRENGTH = 1e-9
"""Cramér's V below this is rounding."""

Codes = NDArray[np.int64]
"""A whole number for each cell: the level of a factor, or of several together."""
Range = tuple[int, int]
"""The fewest and the most."""


@dataclass(frozen=True)
class Confounding:
    """A factor, and what tells something of its level."""

    factor: str
    """The factor's name."""
    told_by: tuple[str, ...]
    """One other factor, or two whose product it is confounded with."""
    strength: float
    """Cramér's V over the cells, from 0 (independent) to 1."""
    is_complete: bool
    """Whether who knows these knows the factor's level, or the other way round for a single one."""


@dataclass(frozen=True)
class OrderBalance:
    """How evenly the orders are spread over participants."""

    participants: int
    """How many there are."""
    complete_at: int
    """A multiple of so many completes every Latin square; 1 where there are none."""
    places: Range
    """How often a stimulus stands at each place of its run."""
    followers: Range | None
    """How often it comes directly after each other one of its run; None without Latin squares of stimuli."""
    block_places: Range | None
    """How often a block stands at each place; None without blocks."""
    block_followers: Range | None
    """How often a block comes directly after each other one; None without blocks."""

    @property
    def is_complete(self) -> bool:
        """Whether every Latin square is complete."""
        return self.participants % self.complete_at == 0


@dataclass(frozen=True)
class Balance:
    """What a set of stimuli has how often, and what is confounded."""

    rows: int
    """Of the manifest."""
    levels: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    """Rows of cells (not foils) with each level, by factor."""
    cells: int
    """Cells that there are."""
    possible_cells: int
    """Cells of the full crossing."""
    rows_per_cell: Range
    """The fewest and the most, of the cells that there are."""
    missing: tuple[str, ...]
    """The labels of the cells of the full crossing that are not there."""
    foils: tuple[tuple[str, int], ...]
    """Rows with each foil."""
    confounded: tuple[Confounding, ...]
    """Factors of which others tell something, the strongest first."""
    fraction: Fraction | None
    """The regular fraction that the cells are."""
    orders: OrderBalance | None
    """None without participants."""


def measure_balance(
    factors: Sequence[Factor],
    chosen: Sequence[Combination],
    fraction: Fraction | None,
    stimuli: Sequence[Stimulus],
    orders: OrderBalance | None,
) -> Balance:
    """The balance of a set of stimuli.

    Args:
        factors: Of the design.
        chosen: The combinations of levels that there are.
        fraction: The fraction that they are, if they are one.
        stimuli: Every row.
        orders: How the orders are spread, if there are any.
    """
    rows = [stimulus for stimulus in stimuli if stimulus.foil is None]
    per_cell = Counter(stimulus.cell for stimulus in rows)
    return Balance(
        rows=len(stimuli),
        levels=tuple((factor.name, _level_counts(factor, rows)) for factor in factors),
        cells=len(chosen),
        possible_cells=math.prod(len(factor.levels) for factor in factors),
        rows_per_cell=(min(per_cell.values()), max(per_cell.values())),
        missing=tuple(_missing(factors, chosen)),
        foils=tuple(Counter(stimulus.foil for stimulus in stimuli if stimulus.foil is not None).items()),
        confounded=confoundings(factors, chosen),
        fraction=fraction,
        orders=orders,
    )


def _level_counts(factor: Factor, rows: Iterable[Stimulus]) -> tuple[tuple[str, int], ...]:
    counts = Counter(stimulus.levels[factor.name] for stimulus in rows)
    return tuple((label, counts[label]) for label in factor.labels)


def _missing(factors: Sequence[Factor], chosen: Iterable[Combination]) -> Iterator[str]:
    there = set(chosen)
    for combination in itertools.product(*(range(len(factor.levels)) for factor in factors)):
        if combination not in there:
            yield "_".join(factor.labels[i] for factor, i in zip(factors, combination, strict=True))


def confoundings(factors: Sequence[Factor], chosen: Sequence[Combination]) -> tuple[Confounding, ...]:
    """Which factors tell something of which, and which of two together tell more than either alone.

    Args:
        factors: Of the design.
        chosen: The combinations of levels that there are.

    Returns:
        The strongest first; nothing where all factors are independent of each other and of any two others.
    """
    codes = np.array(chosen, dtype=np.int64)
    places = [i for i in range(len(factors)) if len(np.unique(codes[:, i])) > 1]
    alone = {(i, j): cramers_v(codes[:, i], codes[:, j]) for i, j in itertools.combinations(places, 2)}
    found = [
        _confounding(factors, codes, i, (j,), strength)
        for (i, j), strength in alone.items()
        if strength > SMALLEST_STRENGTH
    ]
    for i in places:
        for j, k in itertools.combinations([place for place in places if place != i], 2):
            strength = cramers_v(codes[:, i], _together(codes, (j, k)))
            single = max(alone[min(i, other), max(i, other)] for other in (j, k))
            if strength > single + SMALLEST_STRENGTH:
                found.append(_confounding(factors, codes, i, (j, k), strength))
    return tuple(sorted(found, key=lambda item: (len(item.told_by), -item.strength)))


def _confounding(
    factors: Sequence[Factor], codes: Codes, place: int, others: tuple[int, ...], strength: float
) -> Confounding:
    told_by = _together(codes, others)
    is_complete = _tells(told_by, codes[:, place]) or (len(others) == 1 and _tells(codes[:, place], told_by))
    return Confounding(factors[place].name, tuple(factors[i].name for i in others), strength, is_complete)


def _together(codes: Codes, places: Iterable[int]) -> Codes:
    """One number for each combination of the levels of these factors."""
    together = np.zeros(len(codes), dtype=np.int64)
    for place in places:
        together = together * (int(codes[:, place].max()) + 1) + codes[:, place]
    return together


def _tells(known: Codes, asked: Codes) -> bool:
    """Whether each level of the one goes with one level of the other."""
    pairs = np.unique(np.stack([known, asked]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(known)))


def cramers_v(first: Codes, second: Codes) -> float:
    """Cramér's V of two classifications of the same cells: 0 if independent, 1 if one gives the other.

    Levels that do not occur are left out; with a single level on one side nothing is to tell: 0.
    """
    _, rows = np.unique(first, return_inverse=True)
    _, columns = np.unique(second, return_inverse=True)
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    if min(shape) == 1:
        return 0.0
    table = np.zeros(shape)
    np.add.at(table, (rows, columns), 1)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / len(first)
    chi_squared = float(((table - expected) ** 2 / expected).sum())
    return math.sqrt(chi_squared / len(first) / (min(shape) - 1))


def measure_orders(participants: Participants, runs: Sequence[Run]) -> OrderBalance:
    """How evenly orders are spread over the participants.

    Args:
        participants: Who, and how the orders were made.
        runs: As :func:`stylebatch.design.orders.make_orders` gives them.
    """
    blocks = _block_orders(runs)
    is_square = participants.order == "latin-square"
    is_blocked = participants.blocks is not None
    first = [run for run in runs if run.participant == 1]
    squares = [len(run.pair_ids) for run in first if is_square] + [len(blocks[0].pair_ids)]
    return OrderBalance(
        participants=participants.count,
        complete_at=math.lcm(*(square_rows(count) for count in squares)),
        places=_spread(runs, _places, lambda count: count * count) or (0, 0),
        followers=_spread(runs, _followers, lambda count: count * (count - 1)) if is_square else None,
        block_places=_spread(blocks, _places, lambda count: count * count) if is_blocked else None,
        block_followers=_spread(blocks, _followers, lambda count: count * (count - 1))
        if is_blocked
        else None,
    )


def _block_orders(runs: Iterable[Run]) -> list[Run]:
    """Every participant's blocks as if each were a stimulus."""
    blocks: dict[int, dict[str, None]] = {}
    for run in runs:
        blocks.setdefault(run.participant, {})[run.block] = None
    return [Run(participant, "", 1, tuple(order)) for participant, order in blocks.items()]


def _places(items: Sequence[str]) -> Iterable[tuple[str, object]]:
    return zip(items, range(len(items)), strict=True)


def _followers(items: Sequence[str]) -> Iterable[tuple[str, object]]:
    return itertools.pairwise(items)


def _spread(
    runs: Iterable[Run],
    events: Callable[[Sequence[str]], Iterable[tuple[str, object]]],
    possible: Callable[[int], int],
) -> Range | None:
    """How often the rarest and the most frequent event happens; None where none can."""
    counts: Counter[tuple[str, int, str, object]] = Counter()
    sizes: dict[tuple[str, int], int] = {}
    for run in runs:
        sizes[run.block, run.number] = len(run.pair_ids)
        counts.update((run.block, run.number, *event) for event in events(run.pair_ids))
    every = sum(possible(size) for size in sizes.values())
    if not every:
        return None
    return (min(counts.values()) if len(counts) == every else 0), max(counts.values())
