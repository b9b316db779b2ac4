"""Values as a sentence says them: once where all are the same, as a list where few, else as a range."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from stylebatch.report.gathering import Values

MOST_LISTED = 6
"""Different values that a sentence lists."""

Say = Callable[[Any], str]
"""A value in words."""


def plain(value: Any) -> str:
    """A value as it is read: numbers of at most six digits, lists with commas."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple | list):
        return ", ".join(plain(item) for item in value)
    return str(value)


def coded(value: Any) -> str:
    """A name of the program's, as code."""
    return f"`{plain(value)}`"


def listed(items: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *before, last = items
    return f"{', '.join(before)} and {last}" if before else last


def counted(number: int, thing: str) -> str:
    """``1 stimulus``, ``2 stimuli``, ``2 images``."""
    if number == 1:
        return f"1 {thing}"
    return f"{number} {'stimuli' if thing == 'stimulus' else thing + 's'}"


def spread(values: Values) -> str:
    """Numbers: the one that there is, a short list, or from the smallest to the largest."""
    if len(values.counts) <= MOST_LISTED:
        return listed(plain(value) for value in _in_order(values.counts))
    different = f"{len(values.counts)}" if values.is_complete else f"more than {len(values.counts)}"
    return f"{plain(values.low)} to {plain(values.high)} ({different} different values)"


def reach(values: Values, digits: int = 3) -> str:
    """Measured numbers: from the smallest to the largest."""
    low, high = f"{values.low:.{digits}g}", f"{values.high:.{digits}g}"
    return low if low == high else f"{low} to {high}"


def shared(values: Values, say: Say, of: str = "stimulus") -> str:
    """Names and lists: the one that there is, or each with how many stimuli have it, the commonest first."""
    if len(values.counts) == 1:
        return say(values.only)
    if len(values.counts) > MOST_LISTED:
        return f"{len(values.counts)} different ones"
    common = values.counts.most_common()
    return listed(f"{say(value)} ({counted(number, of)})" for value, number in common)


def _in_order(counts: Iterable[Hashable]) -> list[Any]:
    return sorted(counts, key=lambda value: (isinstance(value, str), value))
