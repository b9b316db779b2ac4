"""What a field may hold: its canonical type, its range, and the sentence that says so."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

LARGEST_SIDE = 2**31 - 1
"""Of any image, in pixels."""


@dataclass(frozen=True)
class Rule:
    """What one field may hold."""

    kind: str
    """``number``, ``integer``, ``text``, ``texts`` or ``numbers``: how tables and files hold it."""
    allowed: str
    """What is allowed, as the end of the sentence "it must be ..."."""
    accepts: Callable[[Any], Any]
    """Returns the value in its canonical type, or raises ValueError or TypeError."""
    bounds: tuple[float, float] | None = None
    """The least and the largest number; every one between them is accepted. None: it is no single number."""


def number(low: float, high: float, note: str = "") -> Rule:
    """A finite number within bounds."""
    return Rule(
        "number",
        f"a finite number from {low:g} to {high:g}{note}",
        lambda value: _within(_as_float(value), low, high),
        (low, high),
    )


def integer(low: int, high: int, note: str = "") -> Rule:
    """A whole number within bounds."""
    return Rule(
        "integer",
        f"a whole number from {low} to {high}{note}",
        lambda value: _within(_as_int(value), low, high),
        (low, high),
    )


def numbers(high: float, what: str, most: int) -> Rule:
    """A list of shares: finite numbers from 0, not all 0."""

    def accept(value: Any) -> tuple[float, ...]:
        shares = tuple(_within(_as_float(share), 0, high) for share in _as_tuple(value, most))
        if not shares or sum(shares) == 0:
            raise ValueError
        return shares

    allowed = f"a list of finite numbers from 0 to {high:g}, not all 0, one for each {what}, at most {most}"
    return Rule("numbers", allowed, accept)


def box() -> Rule:
    """A rectangle of an image, in whole pixels."""

    def accept(value: Any) -> tuple[int, ...]:
        left, top, width, height = (
            _within(_as_int(number), 0, LARGEST_SIDE) for number in _as_tuple(value, 4)
        )
        return left, top, _within(width, 1, LARGEST_SIDE), _within(height, 1, LARGEST_SIDE)

    return Rule(
        "numbers", "four whole numbers: left, top, width, height (pixels of the upright image)", accept
    )


def one_of(*options: str) -> Rule:
    """One of a few texts."""

    def accept(value: Any) -> str:
        if not isinstance(value, str) or value not in options:
            raise ValueError
        return value

    return Rule("text", "one of " + ", ".join(options), accept)


def some_of(options: Sequence[str], what: str) -> Rule:
    """A list of different texts out of a few, at least one; kept in their own order."""

    def accept(value: Any) -> tuple[str, ...]:
        chosen = _as_tuple(value, len(options))
        if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set(options):
            raise ValueError
        return tuple(sorted(chosen, key=options.index))

    return Rule("texts", f"a list of different {what}, from " + ", ".join(options), accept)


def text(allowed: str, accepts: Callable[[str], bool]) -> Rule:
    """A text that a test accepts."""

    def accept(value: Any) -> str:
        if not isinstance(value, str) or not accepts(value):
            raise ValueError
        return value

    return Rule("text", allowed, accept)


def _as_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError
    if not math.isfinite(value):
        raise ValueError
    return float(value) + 0.0  # -0.0 becomes 0.0, so that equal recipes have equal fingerprints


def _as_int(value: Any) -> int:
    whole = int(value) if isinstance(value, Integral) else _as_float(value)
    if isinstance(value, bool) or whole != int(whole):
        raise TypeError
    return int(whole)


def _as_tuple(value: Any, most: int) -> tuple[Any, ...]:
    """The items of what has an order: a list, a tuple or an array; no more than there may be."""
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping | Set):
        raise TypeError
    items = tuple(itertools.islice(value, most + 1))
    if len(items) > most:
        raise ValueError
    return items


def _within(value: Any, low: float, high: float) -> Any:
    if not low <= value <= high:
        raise ValueError
    return value
