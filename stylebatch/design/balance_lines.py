"""How a set's balance reads: a line for each thing. Prints nothing."""

from collections.abc import Iterator, Sequence

from stylebatch.design.balance import Balance, Confounding, OrderBalance, Range
from stylebatch.design.fractions import Fraction, Word

MOST_LISTED = 8
"""Missing cells and confoundings that are listed; the others are counted."""


def contents_line(balance: Balance) -> str:
    """How many rows a set has, and of what."""
    foils = sum(number for _, number in balance.foils)
    return f"{balance.rows} rows: {balance.rows - foils} of {balance.cells} cells, {foils} of foils"


def balance_lines(balance: Balance) -> Iterator[str]:
    """What is balanced in a set, and what is confounded with what."""
    for name, counts in balance.levels:
        yield f"{name}: " + ", ".join(f"{label} {number}" for label, number in counts)
    yield f"cells: {balance.cells} of {balance.possible_cells}, rows in each: {_range(balance.rows_per_cell)}"
    if balance.fraction:
        yield from _fraction_lines(balance.fraction, [name for name, _ in balance.levels])
    elif balance.missing:
        yield f"missing: {_listed(balance.missing)}"
    if balance.foils:
        yield "foils: " + ", ".join(f"{label} {number}" for label, number in balance.foils)
    yield from _confounding_lines(balance.confounded)
    if balance.orders:
        yield from _order_lines(balance.orders)


def _fraction_lines(fraction: Fraction, names: Sequence[str]) -> Iterator[str]:
    sums = (f"{_sum(word, names)} is a multiple of {prime}" for prime, word in fraction.relations)
    yield f"fraction: of resolution {fraction.resolution}; with levels counted from 0, {'; '.join(sums)}"
    products = [
        " x ".join(name for name, weight in zip(names, word, strict=True) if weight)
        for _, word in fraction.words
    ]
    given_up = _listed([*dict.fromkeys(products)])
    yield f"given up for it: {given_up}; any part of such a product is confounded with its other part"


def _sum(word: Word, names: Sequence[str]) -> str:
    terms = [
        name if weight == 1 else f"{weight} {name}"
        for name, weight in zip(names, word, strict=True)
        if weight
    ]
    return " + ".join(terms)


def _confounding_lines(confounded: Sequence[Confounding]) -> Iterator[str]:
    if not confounded:
        yield "confounded: no factor, neither with another one nor with the product of two others"
    for item in confounded[:MOST_LISTED]:
        yield (
            f"confounded {'completely' if item.is_complete else 'partly'}: {item.factor} with "
            f"{' x '.join(item.told_by)} (Cramér's V {item.strength:.2f})"
        )
    if len(confounded) > MOST_LISTED:
        yield f"confounded: and {len(confounded) - MOST_LISTED} more"


def _order_lines(orders: OrderBalance) -> Iterator[str]:
    if orders.block_places:
        yield "orders: each block " + _spread(orders.block_places, orders.block_followers)
    yield "orders: each stimulus " + _spread(orders.places, orders.followers)
    if not orders.is_complete:
        yield (
            f"orders: {orders.participants} participants are no multiple of the {orders.complete_at} that "
            "complete every Latin square, so places and neighbours are not fully balanced"
        )


def _spread(places: Range, followers: Range | None) -> str:
    after = f", {_often(followers)} directly after each other one" if followers else ""
    return f"{_often(places)} at each place{after}"


def _often(numbers: Range) -> str:
    return {(1, 1): "once", (2, 2): "twice"}.get(numbers, f"{_range(numbers)} times")


def _range(numbers: Range) -> str:
    fewest, most = numbers
    return str(fewest) if fewest == most else f"{fewest} to {most}"


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - MOST_LISTED} more" if len(items) > MOST_LISTED else ""
    return ", ".join(items[:MOST_LISTED]) + more
