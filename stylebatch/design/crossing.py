"""Which combinations of levels a design has: all, a regular fraction, or what lists say."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stylebatch.design.entries import Entry, suggestion
from stylebatch.design.factors import Factor
from stylebatch.design.fractions import Cells, Fraction, regular_fraction
from stylebatch.errors import DesignError
from stylebatch.quoting import quoted

MOST_CELLS = 100_000
"""Cells of the full crossing."""

Combination = tuple[int, ...]
"""The number, from 0, of each factor's level."""
Pattern = Mapping[str, tuple[str, ...]]
"""Labels by factor: the cells that have one of them for each factor named."""

_FRACTION = re.compile(r"1/([1-9][0-9]{0,5})")
_KINDS = {"fraction": None, "only": None, "leave_out": None}
_LIST_ALLOWED = "a list of cells, such as [{content: cat, style: wave}]"


@dataclass(frozen=True)
class Crossing:
    """Which cells of the full crossing there are."""

    denominator: int = 1
    """Of the regular fraction; 1 is all."""
    only: tuple[Pattern, ...] = ()
    """If any: cells that match one of these."""
    leave_out: tuple[Pattern, ...] = ()
    """Not the cells that match one of these."""


def read_crossing(entry: Entry, factors: Sequence[Factor]) -> Crossing:
    """The crossing of a design.

    Raises:
        DesignError: It is none of the forms, or names a factor or level that is not there.
    """
    if entry.value == "full":
        return Crossing()
    if not isinstance(entry.value, dict) or len(entry.value) != 1:
        raise entry.refusal("full, or one of {fraction: 1/2}, {only: [...]} and {leave_out: [...]}")
    below = entry.keys(_KINDS)[kind := next(iter(entry.value))]
    if kind == "fraction":
        found = _FRACTION.fullmatch(below.value) if isinstance(below.value, str) else None
        if found is None or int(found[1]) < 2:
            raise below.refusal("1/2, 1/3 or another 1/whole number")
        return Crossing(denominator=int(found[1]))
    patterns = tuple(_read_pattern(item, factors) for item in below.listed(_LIST_ALLOWED))
    if not patterns:
        raise below.refusal(_LIST_ALLOWED)
    return Crossing(only=patterns) if kind == "only" else Crossing(leave_out=patterns)


def _read_pattern(entry: Entry, factors: Sequence[Factor]) -> Pattern:
    labels = {factor.name: factor.labels for factor in factors}
    pattern: dict[str, tuple[str, ...]] = {}
    for name, item in entry.named("a mapping of factors to labels, such as {content: cat}").items():
        if name not in labels:
            raise DesignError(
                f"{item.path}: there is no factor {quoted(name)}{suggestion(name, labels)}; the factors are "
                f"{', '.join(labels)}"
            )
        items = item.listed(_LIST_ALLOWED) if isinstance(item.value, list) else [item]
        pattern[name] = tuple(_read_label(label, labels[name]) for label in items)
    return pattern


def _read_label(entry: Entry, labels: Sequence[str]) -> str:
    is_text = isinstance(entry.value, str | int | float) and not isinstance(entry.value, bool)
    label = str(entry.value) if is_text else ""
    if label not in labels:
        raise entry.refusal(f"a level's label: one of {', '.join(labels[:20])}")
    return label


def combinations(factors: Sequence[Factor], crossing: Crossing) -> tuple[list[Combination], Fraction | None]:
    """The cells of a design, the first factor varying slowest.

    Args:
        factors: At least one.
        crossing: Which cells there are.

    Returns:
        The cells, and the fraction that they are, if they are one.

    Raises:
        DesignError: There are none, or too many, or no such fraction.
    """
    levels = [len(factor.levels) for factor in factors]
    count = math.prod(levels)
    if count > MOST_CELLS:
        raise DesignError(
            f"factors: their full crossing has {count:,} cells ({' x '.join(map(str, levels))}); "
            f"at most {MOST_CELLS:,} are made: split the design"
        )
    every = np.stack(np.unravel_index(np.arange(count), levels), axis=1)
    if crossing.denominator > 1:
        fraction = regular_fraction(levels, crossing.denominator)
        return _as_combinations(every[fraction.keeps(every)]), fraction
    is_kept = np.full(count, not crossing.only)
    for pattern in crossing.only:
        is_kept |= _matches(every, pattern, factors)
    for pattern in crossing.leave_out:
        is_kept &= ~_matches(every, pattern, factors)
    if not is_kept.any():
        raise DesignError("crossing: it leaves no cell; leave out less")
    return _as_combinations(every[is_kept]), None


def _matches(cells: Cells, pattern: Pattern, factors: Sequence[Factor]) -> NDArray[np.bool_]:
    """Which cells have one of the pattern's labels for each factor that it names."""
    found = np.full(len(cells), True)
    for place, factor in enumerate(factors):
        if factor.name in pattern:
            wanted = [factor.labels.index(label) for label in pattern[factor.name]]
            found &= np.isin(cells[:, place], wanted)
    return found


def _as_combinations(cells: Cells) -> list[Combination]:
    return [tuple(cell) for cell in cells.tolist()]
